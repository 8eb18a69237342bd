/** What this module throws: a message for people that says what was expected and what to do. */
export class SpladeLiteError extends Error {}

export interface OpenOptions {
  /** How files are fetched; the global `fetch` by default. */
  fetch?: typeof fetch;
  /** Keep what was fetched in the browser's CacheStorage, where the page may use it (https, localhost). Default: true. */
  persist?: boolean;
  /** Called with what the host makes worse than it could be; by default it goes to `console.warn`. */
  onNotice?: (text: string) => void;
}

export type Progress = (bytes: number, of: number) => void;
export type Mode = "hybrid" | "splade" | "bm25";
export type Scalar = string | number | boolean | null;

/** A filter on metadata, as in Python: `{ year: { $gte: 2020 }, lang: "en" }`. */
export interface Where {
  [path: string]: unknown;
}

export interface SearchOptions {
  /** How many documents, at least 1. Default: 10. */
  k?: number;
  /** Default: "hybrid" where the database has BM25, else "splade". */
  mode?: Mode;
  /** "idf" (default) weighs the query's own tokens by rarity; "model" runs the SPLADE encoder, loaded on first use. */
  encoder?: "idf" | "model";
  where?: Where;
  /** Leave out documents that score less. */
  minScore?: number;
  /** Of a hybrid's parts; by default the query's length decides. */
  weights?: { splade?: number; bm25?: number };
  /** Of a hybrid. Default: "convex". */
  fusion?: "convex" | "rrf";
  /** false leaves id, metadata and passage out, which are fetched last; see `addTexts`. Default: true. */
  texts?: boolean;
  signal?: AbortSignal;
}

export interface Term {
  id: number;
  term: string;
  weight: number;
  /** The query's own words do not contain the term. */
  expansion: boolean;
}

export interface TermMatch extends Term {
  queryWeight: number;
  documentWeight: number;
  contribution: number;
}

export interface PartMatch {
  part: "splade" | "bm25";
  score: number;
  /** What the part adds to the hit's score. */
  contribution: number;
  /** Of BM25: what each word adds to the part's score, strongest first. */
  words?: { word: string; contribution: number }[];
}

export interface Passage {
  text: string;
  /** Where it stands in the document, in UTF-16 units. */
  start: number;
  end: number;
}

export interface Hit {
  id: string;
  score: number;
  metadata: Record<string, unknown>;
  /** The document's best passage. */
  passage: Passage;
  /** Why: what each of SPLADE's terms adds to that part's score, strongest first. */
  terms: TermMatch[];
  parts: PartMatch[];
  /** Number of the document in the export. */
  document: number;
  passageNumber: number;
  query: [term: number, weight: number][];
  words: [id: number, word: string][];
}

export interface Results {
  /** Best first. */
  hits: Hit[];
  /** The query as SPLADE sees it, strongest first. */
  query: Term[];
  /** The words that BM25 looked for. */
  words: string[];
  /** Of a hybrid: the model cannot read most of the query, so SPLADE has no say. */
  unread: boolean;
}

export interface Abilities {
  encoders: ("idf" | "model")[];
  modes: Mode[];
  fields: { path: string; distinct: number }[];
}

export interface Contents {
  documents: number;
  passages: number;
  model: string;
  fingerprint: string;
  notes: string[];
  files: Record<string, [name: string, bytes: number][]>;
}

export class Database {
  readonly contents: Contents;
  readonly documents: number;
  readonly passages: number;
  /** What the host makes worse than it could be. */
  readonly notices: string[];
  readonly abilities: Abilities;
  /** Numbers of the documents that the model cannot read: in a hybrid SPLADE has no say about them. */
  readonly unread: ArrayLike<number>;
  /** What was fetched since the database was opened. */
  readonly traffic: { requests: number; bytes: number };
  /** Bytes of all files. */
  readonly size: number;

  /** The k best documents; the same ids and scores as `db.search` in Python. */
  search(query: string | Record<number, number>, options?: SearchOptions): Promise<Results>;
  /** The query's weighted terms, ascending. */
  weigh(query: string | Record<number, number>, encoder?: "idf" | "model"): Promise<[term: number, weight: number][]>;
  /** Load the SPLADE query encoder before a search needs it. */
  loadEncoder(onProgress?: Progress): Promise<unknown>;
  /** The model's tokens of a text. */
  tokenize(text: string): { term: number; start: number; end: number }[];
  /** Whether the model's vocabulary has most of a text. */
  reads(text: string): boolean;
  /** Complete the hits of a search with `texts: false`. */
  addTexts(hits: Hit[]): Promise<Hit[]>;
  /** A hit's whole document. */
  document(hit: Hit): Promise<{ id: string; metadata: Record<string, unknown>; text: string }>;
  /** A hit's passage in pieces, those marked that match the query. */
  highlight(hit: Hit): { text: string; mark: boolean }[];
  /** How many documents have each value of a metadata field, most frequent first. */
  values(field: string, where?: Where): Promise<[value: Scalar, count: number][]>;
  /** Fetch everything and keep it: any search then works without a network. */
  keepOffline(onProgress?: Progress): Promise<void>;
}

/** Open an exported folder; by default the page's own. */
export function open(folder?: string | URL, options?: OpenOptions): Promise<Database>;

-- Format 1. One statement a paragraph; migrations/README.md tells what each table is for.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE term (
  term_id INTEGER PRIMARY KEY,
  term    TEXT NOT NULL
) STRICT;

CREATE TABLE document (
  doc_id       INTEGER PRIMARY KEY,  -- the passage_id of its first passage
  id           TEXT NOT NULL UNIQUE,
  metadata     TEXT NOT NULL,        -- a JSON object
  passages     INTEGER NOT NULL,     -- how many: passage_id doc_id, doc_id + 1, ...
  content_hash BLOB NOT NULL,        -- of the text, and of the vector where the caller gave it
  checksum     INTEGER NOT NULL,
  text         TEXT NOT NULL         -- last, so that what stands before it is read without it
) STRICT;

CREATE TABLE passage (
  passage_id INTEGER PRIMARY KEY AUTOINCREMENT,
  doc_id     INTEGER NOT NULL,
  start_char INTEGER NOT NULL,
  end_char   INTEGER NOT NULL,
  scale      REAL NOT NULL,          -- weight = impact * scale
  terms      BLOB,                   -- term ids, ascending, 2 bytes each (4 where the vocabulary needs it)
  impacts    BLOB,                   -- 1 byte each; both NULL in a slim export
  checksum   INTEGER NOT NULL
) STRICT;

CREATE TABLE segment (
  segment_id      INTEGER PRIMARY KEY AUTOINCREMENT,
  size            INTEGER NOT NULL,  -- passages, at most 65536
  last_passage_id INTEGER NOT NULL,
  passage_ids     BLOB NOT NULL,     -- size x 8 bytes, ascending
  scales          BLOB NOT NULL,     -- size x 4 bytes, float32
  document_starts BLOB NOT NULL,     -- size bits: 1 where a document begins
  terms           BLOB NOT NULL,     -- bit t of it: 1 where the segment has a posting row of term t
  checksum        INTEGER NOT NULL
) STRICT;

CREATE TABLE tombstone (
  segment_id INTEGER PRIMARY KEY,
  deleted    INTEGER NOT NULL,       -- how many bits are set
  bitmap     BLOB NOT NULL,          -- size bits: 1 where the passage is gone
  checksum   INTEGER NOT NULL
) STRICT;

CREATE TABLE posting (
  segment_id INTEGER NOT NULL,
  term_id    INTEGER NOT NULL,
  count      INTEGER NOT NULL,
  postings   BLOB NOT NULL,          -- the grammar is in spladelite/postings.py
  checksum   INTEGER NOT NULL,
  PRIMARY KEY (segment_id, term_id)
) STRICT;

-- BM25: one row a document, rowid = doc_id; empty where the file was created with bm25=False. spladelite/lexical.py
CREATE VIRTUAL TABLE document_text USING fts5(
  text,
  content = '',
  contentless_delete = 1,
  tokenize = 'porter unicode61 remove_diacritics 2'
);

-- Dense vectors of up to 256 passages a row; empty in a file without dense=. spladelite/dense.py
CREATE TABLE dense_block (
  block_id    INTEGER PRIMARY KEY,  -- its first passage_id
  passage_ids BLOB NOT NULL,        -- n x 8 bytes, ascending
  doc_ids     BLOB NOT NULL,        -- n x 8 bytes
  scales      BLOB NOT NULL,        -- n x 4 bytes, float32: component = int8 * scale
  vectors     BLOB NOT NULL,        -- n x dimension x 1 byte, int8
  checksum    INTEGER NOT NULL
) STRICT;

-- Two views for any SQLite shell. json_each('[0,0,...]') counts i.key from 0 to n - 1; instr() turns a hex digit into
-- its value. The strongest terms of a document: SELECT term, weight FROM document_term WHERE id = ? ORDER BY weight DESC

CREATE VIEW document_term AS
SELECT
  v.id,
  v.passage_id,
  t.term,
  v.scale * (16 * instr('123456789ABCDEF', substr(v.impact, 1, 1)) + instr('123456789ABCDEF', substr(v.impact, 2, 1))) AS weight
FROM (
  SELECT
    d.id,
    p.passage_id,
    p.scale,
    hex(substr(p.impacts, i.key + 1, 1)) AS impact,
    hex(substr(p.terms, length(p.terms) / length(p.impacts) * i.key + 1, length(p.terms) / length(p.impacts))) || '0000' AS term
  FROM document d
  CROSS JOIN passage p ON p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1
  CROSS JOIN json_each('[' || substr(replace(hex(zeroblob(length(p.impacts))), '00', ',0'), 2) || ']') i
) v
CROSS JOIN term t ON t.term_id =
  16 * instr('123456789ABCDEF', substr(v.term, 1, 1)) + instr('123456789ABCDEF', substr(v.term, 2, 1))
  + 256 * (16 * instr('123456789ABCDEF', substr(v.term, 3, 1)) + instr('123456789ABCDEF', substr(v.term, 4, 1)))
  + 65536 * (16 * instr('123456789ABCDEF', substr(v.term, 5, 1)) + instr('123456789ABCDEF', substr(v.term, 6, 1)));

-- The documents of a term: SELECT id, weight FROM term_document WHERE term = ? ORDER BY weight DESC

CREATE VIEW term_document AS
SELECT
  t.term,
  d.id,
  p.passage_id,
  p.scale * (
    16 * instr('123456789ABCDEF', substr(hex(substr(p.impacts, i.key + 1, 1)), 1, 1))
    + instr('123456789ABCDEF', substr(hex(substr(p.impacts, i.key + 1, 1)), 2, 1))
  ) AS weight
FROM term t
CROSS JOIN passage p ON instr(
  hex(p.terms),
  substr(printf('%02X%02X%02X00', t.term_id & 255, t.term_id >> 8 & 255, t.term_id >> 16), 1, 2 * length(p.terms) / length(p.impacts))
) > 0
CROSS JOIN json_each('[' || substr(replace(hex(zeroblob(length(p.impacts))), '00', ',0'), 2) || ']') i
  ON hex(substr(p.terms, length(p.terms) / length(p.impacts) * i.key + 1, length(p.terms) / length(p.impacts))) =
    substr(printf('%02X%02X%02X00', t.term_id & 255, t.term_id >> 8 & 255, t.term_id >> 16), 1, 2 * length(p.terms) / length(p.impacts))
CROSS JOIN document d ON d.doc_id = p.doc_id;

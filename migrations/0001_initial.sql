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
  scale      REAL NOT NULL,          -- weight = impact * scale; 0 in a slim export
  terms      BLOB,                   -- term ids, ascending; the grammar is in spladelite/ascending.py
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

-- Views for any SQLite shell. The first writes the upper bits of a passage's terms as text, 'x' for 1 and '.' for 0: the
-- n-th x is the n-th term, and as many dots as stand before it are the high part of its id.

CREATE VIEW passage_bits AS
SELECT
  passage_id,
  replace(replace(replace(replace(
  replace(replace(replace(replace(
  replace(replace(replace(replace(
  replace(replace(replace(replace(
    hex(substr(terms, length(impacts) + 1)),
    '0', '....'), '1', '...x'), '2', '..x.'), '3', '..xx'),
    '4', '.x..'), '5', '.x.x'), '6', '.xx.'), '7', '.xxx'),
    '8', 'x...'), '9', 'x..x'), 'A', 'x.x.'), 'B', 'x.xx'),
    'C', 'xx..'), 'D', 'xx.x'), 'E', 'xxx.'), 'F', 'xxxx') AS bits
FROM passage;

-- json_array() keeps a text so that it is made once a passage; json_each('[0,1,...]') counts i.key from 0; instr() turns a
-- hex digit into its value. The strongest terms of a document:
-- SELECT term, weight FROM document_term WHERE id = ? ORDER BY weight DESC

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
    length(replace(substr(b.value, 1, i.key), 'x', '')) AS high,
    hex(substr(p.terms, length(replace(substr(b.value, 1, i.key + 1), '.', '')), 1)) AS low,
    hex(substr(p.impacts, length(replace(substr(b.value, 1, i.key + 1), '.', '')), 1)) AS impact
  FROM document d
  CROSS JOIN passage p ON p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1
  CROSS JOIN passage_bits USING (passage_id)
  CROSS JOIN json_each(json_array(bits)) b
  CROSS JOIN json_each('[' || substr(replace(replace(b.value, 'x', ',1'), '.', ',0'), 2) || ']') i ON i.value = 1
) v
CROSS JOIN term t ON t.term_id =
  256 * v.high + 16 * instr('123456789ABCDEF', substr(v.low, 1, 1)) + instr('123456789ABCDEF', substr(v.low, 2, 1));

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
CROSS JOIN json_each(json_array(printf('%02X', t.term_id & 255))) low
CROSS JOIN passage p ON instr(hex(substr(p.terms, 1, length(p.impacts))), low.value) > 0
CROSS JOIN json_each('[' || substr(replace(hex(zeroblob(length(p.impacts))), '00', ',0'), 2) || ']') i
  ON hex(substr(p.terms, i.key + 1, 1)) = low.value
CROSS JOIN passage_bits USING (passage_id)
CROSS JOIN json_each(json_array(bits)) b
  ON substr(b.value, (t.term_id >> 8) + i.key + 1, 1) = 'x'
  AND length(replace(substr(b.value, 1, (t.term_id >> 8) + i.key), '.', '')) = i.key
CROSS JOIN document d ON d.doc_id = p.doc_id;

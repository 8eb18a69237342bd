-- Format 2: words are terms, and their posting lists, BM25's, stand in the table posting. spladelite/documents/format2.py
-- fills them.

DROP TABLE document_text;

-- documents x 4 bytes: how many words each document of the segment has; empty where bm25 = 0.

ALTER TABLE segment ADD COLUMN lengths BLOB NOT NULL DEFAULT x'';

-- How many rows of posting hold the lists of rare words, a power of two; 0 where bm25 = 0. spladelite/index/buckets.py

ALTER TABLE segment ADD COLUMN buckets INTEGER NOT NULL DEFAULT 0;

-- The words of a document in the tail; a document that is sealed has its words in posting.

CREATE TABLE document_words (
  doc_id      INTEGER PRIMARY KEY,
  length      INTEGER NOT NULL,      -- words, each time counted
  words       BLOB NOT NULL,         -- n x 6 bytes, big-endian: term ids, ascending
  frequencies BLOB NOT NULL,         -- n x 1 byte: how often, at most 255
  checksum    INTEGER NOT NULL
) STRICT;

-- Documents most of whose text the model cannot read.

CREATE TABLE unread (
  doc_id INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE feedback (
  feedback_id INTEGER PRIMARY KEY,
  query       TEXT NOT NULL,
  id          TEXT NOT NULL,         -- the document's
  value       REAL NOT NULL,
  at          TEXT NOT NULL,         -- when, in UTC, ISO 8601
  checksum    INTEGER NOT NULL
) STRICT;

-- The view term_document again, now from the side of the passages: term by term, it read all of them before it could give
-- the first rows. A passage's term ids are decoded as in document_term and looked up. WHERE term = ? makes an inner join of
-- the LEFT JOIN, and SQLite takes the term before it decodes: then the further conditions, which say nothing new of a term
-- that was looked up, leave out at once most passages that do not have it. Has the passage the term's low byte? Are there as
-- many x before the first such byte as there should be, or is there a second one?
-- SELECT id, weight FROM term_document WHERE term = ? ORDER BY weight DESC

DROP VIEW term_document;

CREATE VIEW term_document AS
SELECT
  t.term,
  d.id,
  p.passage_id,
  p.scale * (instr(byte.every, substr(p.impacts, i.key - (t.term_id >> 8) + 1, 1)) - 1) AS weight
FROM (SELECT x'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F606162636465666768696A6B6C6D6E6F707172737475767778797A7B7C7D7E7F808182838485868788898A8B8C8D8E8F909192939495969798999A9B9C9D9E9FA0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0C1C2C3C4C5C6C7C8C9CACBCCCDCECFD0D1D2D3D4D5D6D7D8D9DADBDCDDDEDFE0E1E2E3E4E5E6E7E8E9EAEBECEDEEEFF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF' AS every) byte
JOIN passage p
JOIN document d ON d.doc_id = p.doc_id AND p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1
JOIN json_each(json_array((SELECT bits FROM passage_bits b WHERE b.passage_id = p.passage_id))) b
JOIN json_each('[' || substr(replace(replace(b.value, 'x', ',1'), '.', ',0'), 2) || ']') i ON i.value = 1
LEFT JOIN term t
  ON t.term_id = 256 * length(replace(substr(b.value, 1, i.key), 'x', ''))
    + instr(byte.every, substr(p.terms, length(replace(substr(b.value, 1, i.key + 1), '.', '')), 1)) - 1
  AND instr(substr(p.terms, 1, length(p.impacts)), substr(byte.every, (t.term_id & 255) + 1, 1)) > 0
  AND (
    length(replace(substr(b.value, 1, (t.term_id >> 8) + instr(p.terms, substr(byte.every, (t.term_id & 255) + 1, 1))), '.', ''))
      = instr(p.terms, substr(byte.every, (t.term_id & 255) + 1, 1))
    OR instr(
      substr(p.terms, instr(p.terms, substr(byte.every, (t.term_id & 255) + 1, 1)) + 1, length(p.impacts) - instr(p.terms, substr(byte.every, (t.term_id & 255) + 1, 1))),
      substr(byte.every, (t.term_id & 255) + 1, 1)
    ) > 0
  )
  AND substr(p.terms, i.key - (t.term_id >> 8) + 1, 1) = substr(byte.every, (t.term_id & 255) + 1, 1)
  AND length(replace(substr(b.value, 1, i.key), 'x', '')) = t.term_id >> 8;

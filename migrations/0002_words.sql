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

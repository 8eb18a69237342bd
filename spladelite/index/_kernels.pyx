# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The inner loops of ``scoring.top_k`` and ``postings.decode``, compiled: same results, to the last bit.

A segment is worked through in windows of 8,192 passages, so that the sums (32 KB) stay in the first-level cache:
for each term of the query, its postings of this window are added up: full lists by vector instructions, sparse ones
eight at a time (they ascend, so one comparison tells that all eight lie in the window). Then the window is searched for
scores that can still be among the k best. Blocks of 64 passages are passed over when even their largest sum times the
segment's largest scale is too small: rounding is monotone, so ``fl(sum · scale) <= fl(largest sum · largest scale)``.

Candidates are 64-bit keys, ``~score bits << 32 | position``: ascending keys are best first, and ties are in order of
position, which is the order of passage ids. They gather in a buffer of twice k; whenever it is full, a selection
keeps the best k and raises the threshold. That costs O(1) a candidate, for small k and large.

Nothing that a blob says can lead outside of memory: an ordinal is a uint16, and the sums have 65,536 entries. A segment's
``norms``, which BM25 divides by, have as many, or :func:`top_k` refuses them.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AsString as PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AsString as PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_Size as PyBytes_GET_SIZE
from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset
from libcpp.algorithm cimport lower_bound, nth_element
from libcpp.vector cimport vector

import numpy as np

from spladelite.index.ascending import Misfit
from spladelite.index.postings import MAX_SEGMENT, is_full

cdef extern from "_loops.h":
    void add_full(const uint8_t* impacts, int size, float weight, float* sums) noexcept nogil
    void add_full_words(
        const uint8_t* frequencies, int size, float weight, const float* norms, float* sums
    ) noexcept nogil
    int64_t add_words(
        const uint16_t* ordinals, const uint8_t* frequencies, int64_t i, int64_t count, int end, float weight,
        const float* norms, float* sums
    ) noexcept nogil
    void block_maxima(const float* sums, int blocks, float* maxima) noexcept nogil
    void compare_block(const float* sums, const float* scales, float threshold, uint8_t* wanted) noexcept nogil
    void fetch(const void* next, int64_t size) noexcept nogil
    int64_t widen(
        const uint8_t* low, const uint8_t* upper, int64_t upper_length, int64_t count, uint16_t* ordinals
    ) noexcept nogil
    bint ascends(const uint16_t* ordinals, int64_t count) noexcept nogil

cdef enum:
    SUMS = 65536
    WINDOW = 8192
    SCAN = 64
    BLOCKS = 128  # WINDOW / SCAN

cdef struct PostingList:
    const uint16_t* ordinals  # NULL: a full list
    const uint8_t* impacts
    Py_ssize_t count  # of a full list: the segment's passages
    Py_ssize_t next  # the first posting that is not added up yet
    float weight

cdef struct Part:
    const int64_t* passage_ids
    const float* scales
    const float* norms  # NULL: SPLADE; else BM25
    const int32_t* document_of  # NULL: every passage is a document
    const uint8_t* allowed  # NULL: all
    int size
    float max_scale
    size_t first_list
    size_t end_list

cdef struct Best:
    uint64_t* keys
    Py_ssize_t size
    Py_ssize_t capacity
    Py_ssize_t k
    float threshold  # the smallest score that is still wanted

_ones = np.ones(SUMS, np.float32)
cdef const float* ONES = <const float*> data_of(_ones, 4 * SUMS)

# Zeroed sums that no search is using. list.pop and list.append are atomic under the GIL.
_free_sums = []


cdef inline uint32_t float_bits(float value) noexcept nogil:
    cdef uint32_t bits
    memcpy(&bits, &value, 4)
    return bits


cdef inline float bits_float(uint32_t bits) noexcept nogil:
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef inline bint add_window(
    PostingList* postings, const float* norms, float* sums, int start, int end
) noexcept nogil:
    """Add up the postings from ``start``, up to which all are added, and below ``end``; whether there can be any."""
    cdef const uint16_t* ordinals = postings.ordinals
    cdef const uint8_t* impacts = postings.impacts
    cdef float weight = postings.weight
    cdef Py_ssize_t count = postings.count
    cdef Py_ssize_t first = postings.next
    cdef Py_ssize_t i = first
    cdef int j
    if ordinals == NULL:
        if norms == NULL:
            add_full(impacts + start, <int> min(count, <Py_ssize_t> end) - start, weight, sums + start)
        else:
            add_full_words(
                impacts + start, <int> min(count, <Py_ssize_t> end) - start, weight, norms + start, sums + start
            )
        fetch(impacts + end, 256)
        return True
    if norms != NULL:
        i = add_words(ordinals, impacts, i, count, end, weight, norms, sums)
    while i + 8 <= count and ordinals[i + 7] < end:
        for j in range(8):
            sums[ordinals[i + j]] += weight * <float> impacts[i + j]
        i += 8
    while i < count and ordinals[i] < end:
        sums[ordinals[i]] += weight * <float> impacts[i]
        i += 1
    postings.next = i
    # The next window will hold about as many. By then other lists have passed, and the processor has lost the thread.
    fetch(ordinals + i, 2 * (i - first))
    fetch(impacts + i, i - first)
    return i > first


cdef void keep_best(Best* best) noexcept nogil:
    nth_element(best.keys, best.keys + (best.k - 1), best.keys + best.size)
    best.size = best.k
    # Later positions lose ties, so from now on only a higher score is wanted.
    best.threshold = nextafterf(bits_float(~<uint32_t> (best.keys[best.k - 1] >> 32)), INFINITY)


cdef inline void push(Best* best, float score, uint32_t position) noexcept nogil:
    best.keys[best.size] = (<uint64_t> (~float_bits(score)) << 32) | position
    best.size += 1
    if best.size == best.capacity:
        keep_best(best)


cdef void search_part(Part* part, PostingList* lists, uint32_t position, float* sums, Best* best) noexcept nogil:
    cdef size_t t
    cdef int start, end, b, block, i, j, n, document
    cdef int[SCAN + 1] wanted
    cdef uint8_t[SCAN] is_wanted
    cdef uint64_t eight
    cdef float[BLOCKS] maxima
    cdef int pending_document = -1  # its best passage so far is pushed when the next document's first candidate comes
    cdef float pending_score = 0
    cdef uint32_t pending_position = 0
    cdef float score
    cdef bint touched
    start = 0
    while start < part.size:
        end = start + WINDOW
        touched = False
        for t in range(part.first_list, part.end_list):
            touched |= add_window(&lists[t], part.norms, sums, start, end)
        if touched:
            block_maxima(sums + start, BLOCKS, maxima)
            for b in range(BLOCKS):
                block = start + SCAN * b
                if not maxima[b] * part.max_scale >= best.threshold:
                    continue
                if part.size - block >= SCAN:
                    compare_block(sums + block, part.scales + block, best.threshold, is_wanted)
                else:
                    for i in range(SCAN):
                        is_wanted[i] = (
                            i < part.size - block and sums[block + i] * part.scales[block + i] >= best.threshold
                        )
                n = 0
                for i in range(0, SCAN, 8):
                    memcpy(&eight, is_wanted + i, 8)
                    if eight:
                        for j in range(i, i + 8):  # no branches: they would be guessed wrong
                            wanted[n] = j
                            n += is_wanted[j]
                for j in range(n):
                    i = block + wanted[j]
                    score = sums[i] * part.scales[i]
                    if not score >= best.threshold or (part.allowed != NULL and not part.allowed[i]):
                        continue
                    if part.document_of == NULL:
                        push(best, score, position + i)
                        continue
                    document = part.document_of[i]
                    if document != pending_document:
                        if pending_document >= 0:
                            push(best, pending_score, pending_position)
                        pending_document, pending_score, pending_position = document, score, position + i
                    elif score > pending_score:
                        pending_score, pending_position = score, position + i
            memset(sums + start, 0, WINDOW * sizeof(float))
        start = end
    if pending_document >= 0:
        push(best, pending_score, pending_position)


cdef cppclass Search:
    vector[Part] parts
    vector[PostingList] lists
    Best best


cdef class Prepared:
    """One search, checked and ready to run without the GIL."""

    cdef Search search
    cdef list held  # what the pointers point into
    cdef object keys

    def __init__(self, parts, weights, Py_ssize_t k, float min_score):
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        cdef vector[float] c_weights
        cdef Py_ssize_t total = 0
        self.held = []
        for weight in weights:
            c_weights.push_back(<float> <double> weight)
        for part in parts:
            self.held.append(read_part(part, c_weights, self.search.parts, self.search.lists))
            total += self.search.parts.back().size
        if self.search.parts.size() > MAX_SEGMENT:
            raise ValueError(f"{self.search.parts.size()} segments; at most {MAX_SEGMENT}")
        cdef Best* best = &self.search.best
        best.k = min(k, total)
        best.size = 0
        best.capacity = 2 * best.k + 16
        best.threshold = max(min_score, nextafterf(0, INFINITY)) if min_score == min_score else min_score
        self.keys = np.empty(best.capacity, np.uint64)
        cdef uint64_t[::1] keys = self.keys
        best.keys = &keys[0]

    cdef result(self):
        cdef const uint64_t* keys = self.search.best.keys
        cdef Py_ssize_t found = self.search.best.size
        self.keys[:found].sort()  # NumPy's is vectorised
        passage_ids = np.empty(found, np.int64)
        scores = np.empty(found, np.float32)
        cdef int64_t[::1] c_passage_ids = passage_ids
        cdef float[::1] c_scores = scores
        cdef Py_ssize_t i
        cdef uint32_t position
        for i in range(found):
            position = <uint32_t> keys[i]
            c_passage_ids[i] = self.search.parts[position >> 16].passage_ids[position & 0xFFFF]
            c_scores[i] = bits_float(~<uint32_t> (keys[i] >> 32))
        return passage_ids, scores


cdef void run(Search* search, float* sums) noexcept nogil:
    cdef uint32_t i
    for i in range(<uint32_t> search.parts.size()):
        search_part(&search.parts[i], search.lists.data(), i << 16, sums, &search.best)
    if search.best.size > search.best.k:
        keep_best(&search.best)


def top_k(parts, weights, Py_ssize_t k, float min_score=0.0):
    """See :func:`spladelite.index.scoring.top_k`. Posting lists must come from ``decode``. Releases the GIL.

    Raises:
        TypeError: posting lists that are not bytes.
        ValueError: arrays or lists of the wrong length, k below 1.
    """
    return top_k_many([(parts, weights)], k, min_score)[0]


def top_k_many(searches, Py_ssize_t k, float min_score=0.0):
    """See :func:`spladelite.index.scoring.top_k_many`; as :func:`top_k`. Releases the GIL once, for all searches."""
    cdef list prepared = [Prepared(parts, weights, k, min_score) for parts, weights in searches]
    cdef vector[Search*] pointers
    cdef Prepared search
    for search in prepared:
        pointers.push_back(&search.search)
    cdef bytearray zeroed
    try:
        zeroed = _free_sums.pop()
    except IndexError:
        zeroed = bytearray(SUMS * sizeof(float))
    cdef float* sums = <float*> PyByteArray_AS_STRING(zeroed)
    cdef size_t i
    with nogil:
        for i in range(pointers.size()):
            run(pointers[i], sums)
    _free_sums.append(zeroed)
    return [search.result() for search in prepared]


def scores_at(parts, weights, wanted):
    """See :func:`spladelite.index.scoring.scores_at`; as :func:`top_k`.

    Raises:
        ValueError: also ordinals that the segment does not have.
    """
    cdef vector[float] c_weights
    cdef vector[Part] c_parts
    cdef vector[PostingList] lists
    cdef list held = []
    cdef list results = []
    cdef const uint16_t[::1] ordinals
    cdef float[::1] scores
    cdef Part* c_part
    cdef Py_ssize_t i, n
    for weight in weights:
        c_weights.push_back(<float> <double> weight)
    for part, chosen in zip(parts, wanted, strict=True):
        held.append(read_part(part, c_weights, c_parts, lists))
        c_part = &c_parts.back()
        n = len(chosen)
        result = np.empty(n, np.float32)
        results.append(result)
        if n == 0:
            continue
        if int(chosen.max()) >= c_part.size:
            raise ValueError(f"ordinal {chosen.max()} in a segment of {c_part.size} passages")
        ordinals = chosen
        scores = result
        for i in range(n):
            scores[i] = score_of(c_part, lists.data(), ordinals[i])
    return results


cdef float score_of(const Part* part, const PostingList* lists, uint16_t ordinal) noexcept nogil:
    cdef size_t t
    cdef const PostingList* postings
    cdef const uint16_t* first
    cdef const uint16_t* end
    cdef const uint16_t* found
    cdef uint8_t impact
    cdef float value
    cdef float total = 0
    for t in range(part.first_list, part.end_list):
        postings = &lists[t]
        if postings.ordinals == NULL:
            impact = postings.impacts[ordinal]
        else:
            first = postings.ordinals
            end = first + postings.count
            found = lower_bound(first, end, ordinal)
            if found == end or found[0] != ordinal:
                continue
            impact = postings.impacts[found - postings.ordinals]
        value = <float> impact
        if part.norms == NULL:
            total += postings.weight * value
        else:
            total += postings.weight * (value / (value + part.norms[ordinal]))
    return total * part.scales[ordinal]


cdef const void* data_of(array, Py_ssize_t length) except? NULL:
    """The first byte of an array of that many bytes. The array must stay alive, and must not be resized."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE)
    cdef const void* data = buffer.buf
    cdef Py_ssize_t found = buffer.len
    PyBuffer_Release(&buffer)
    if found != length:
        raise ValueError(f"an array has {found} bytes instead of {length}: the arrays of a segment differ in length")
    return data


cdef object read_part(part, vector[float]& weights, vector[Part]& parts, vector[PostingList]& lists):
    """Append one SegmentQuery, checked. Returns what must stay alive while its pointers are used."""
    segment = part.segment
    allowed = part.allowed
    norms = part.norms
    cdef Py_ssize_t size = len(segment.passage_ids)
    if size > SUMS:
        raise ValueError(f"segment {segment.segment_id} has {size} passages; at most {SUMS}")
    cdef Part c_part
    c_part.size = <int> size
    c_part.passage_ids = <const int64_t*> data_of(segment.passage_ids, 8 * size)
    c_part.document_of = NULL
    if norms is None:
        c_part.norms = NULL
        c_part.max_scale = segment.max_scale
        c_part.scales = <const float*> data_of(segment.scales, 4 * size)
        if segment.document_of is not None:
            c_part.document_of = <const int32_t*> data_of(segment.document_of, 4 * size)
    else:  # only a document's first passage has words
        c_part.norms = <const float*> data_of(norms, 4 * SUMS)
        c_part.max_scale = 1
        c_part.scales = ONES
    c_part.allowed = NULL
    if allowed is not None:
        c_part.allowed = <const uint8_t*> data_of(allowed, size)
    c_part.first_list = lists.size()
    cdef tuple given = tuple(part.lists)
    if len(given) != <Py_ssize_t> weights.size():
        raise ValueError(f"{len(given)} posting lists for {weights.size()} weights")
    cdef PostingList c_list
    cdef bytes blob
    cdef size_t t = 0
    for blob in given:
        if blob is None:
            raise TypeError("a posting list is None; an empty one is b''")
        c_list.weight = weights[t]
        c_list.next = 0
        t += 1
        if PyBytes_GET_SIZE(blob) == 0:
            continue
        if PyBytes_GET_SIZE(blob) == size:
            c_list.count = size
            c_list.ordinals = NULL
            c_list.impacts = <const uint8_t*> PyBytes_AS_STRING(blob)
        else:
            c_list.count = PyBytes_GET_SIZE(blob) // 3
            c_list.ordinals = <const uint16_t*> PyBytes_AS_STRING(blob)
            c_list.impacts = <const uint8_t*> PyBytes_AS_STRING(blob) + 2 * c_list.count
        lists.push_back(c_list)
    c_part.end_list = lists.size()
    parts.push_back(c_part)
    return given, segment, allowed, norms


def decode(bytes blob not None, Py_ssize_t count, Py_ssize_t size):
    """See :func:`spladelite.index.postings.decode`."""
    if count < 1 or count > size or size > SUMS:
        raise ValueError(f"{count} postings in a segment of {size} passages")
    cdef Py_ssize_t upper_length = (count + (size + 255) // 256 + 7) // 8
    cdef Py_ssize_t expected = 2 * count + min(count, upper_length)
    if PyBytes_GET_SIZE(blob) != expected:
        raise ValueError(f"{len(blob)} bytes where {count} postings take {expected}")
    cdef bytes postings = PyBytes_FromStringAndSize(NULL, 3 * count)
    cdef const uint8_t* source = <const uint8_t*> PyBytes_AS_STRING(blob)
    cdef uint16_t* ordinals = <uint16_t*> PyBytes_AS_STRING(postings)
    cdef uint8_t* impacts = <uint8_t*> ordinals + 2 * count
    cdef int64_t last
    if count <= upper_length:  # short
        memcpy(ordinals, source, 2 * count)
        last = ordinals[count - 1]
    else:
        last = widen(source, source + count, upper_length, count, ordinals)
    if last < 0:
        raise Misfit(0)
    if last >= size:
        raise ValueError(f"ordinal {last} in a segment of {size} passages")
    if not ascends(ordinals, count):
        raise ValueError("ordinals that do not ascend")
    memcpy(impacts, source + expected - count, count)
    if memchr(impacts, 0, count) != NULL:
        raise ValueError("an impact of 0")
    if not is_full(count, size):
        return postings
    cdef bytes full = PyBytes_FromStringAndSize(NULL, size)
    spread(ordinals, impacts, count, size, <uint8_t*> PyBytes_AS_STRING(full))
    return full


cdef void spread(
    const uint16_t* ordinals, const uint8_t* impacts, Py_ssize_t count, Py_ssize_t size, uint8_t* target
) noexcept nogil:
    """Sparse shape to full. The ordinals must be below ``size``."""
    cdef Py_ssize_t i
    memset(target, 0, size)
    for i in range(count):
        target[ordinals[i]] = impacts[i]

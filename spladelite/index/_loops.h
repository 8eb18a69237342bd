/* The loops of _kernels.pyx that profit from wide registers, compiled for several processors where compiler and linker
   can choose at run time. Multiplication and addition stay two operations, so all of them give the same bits. */

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* sums[i] += weight * impacts[i] */
FOR_EACH_PROCESSOR
static void add_full(const uint8_t* impacts, int size, float weight, float* __restrict sums) {
    for (int i = 0; i < size; i++) sums[i] += weight * (float) impacts[i];
}

/* BM25: sums[i] += weight * f / (f + norms[i]), f the frequency of a word. Where that is 0, nothing is added. */
FOR_EACH_PROCESSOR
static void add_full_words(
    const uint8_t* frequencies, int size, float weight, const float* norms, float* __restrict sums
) {
    for (int i = 0; i < size; i++) {
        float f = (float) frequencies[i];
        sums[i] += weight * (f / (f + norms[i]));
    }
}

/* The same for a sparse list, from its i-th posting on, as long as ordinals are below `end`. Returns the next i. */
FOR_EACH_PROCESSOR
static int64_t add_words(
    const uint16_t* ordinals, const uint8_t* frequencies, int64_t i, int64_t count, int end, float weight,
    const float* norms, float* sums
) {
    for (; i + 8 <= count && ordinals[i + 7] < end; i += 8) {
        float eight[8];
        for (int j = 0; j < 8; j++) eight[j] = norms[ordinals[i + j]];
        for (int j = 0; j < 8; j++) {
            float f = (float) frequencies[i + j];
            eight[j] = weight * (f / (f + eight[j]));
        }
        for (int j = 0; j < 8; j++) sums[ordinals[i + j]] += eight[j];
    }
    for (; i < count && ordinals[i] < end; i++) {
        float f = (float) frequencies[i];
        sums[ordinals[i]] += weight * (f / (f + norms[ordinals[i]]));
    }
    return i;
}

/* The largest of each 64 sums, or 0. As integers: non-negative floats sort alike, and these vectorise. */
FOR_EACH_PROCESSOR
static void block_maxima(const float* sums, int blocks, float* __restrict maxima) {
    for (int block = 0; block < blocks; block++) {
        int32_t largest = 0;
        for (int i = 0; i < 64; i++) {
            int32_t bits;
            std::memcpy(&bits, sums + 64 * block + i, 4);
            largest = bits > largest ? bits : largest;
        }
        std::memcpy(maxima + block, &largest, 4);
    }
}

/* 1 where fl(sums[i] * scales[i]) >= threshold, else 0; for 64 passages. */
FOR_EACH_PROCESSOR
static void compare_block(const float* sums, const float* scales, float threshold, uint8_t* __restrict wanted) {
    for (int i = 0; i < 64; i++) wanted[i] = sums[i] * scales[i] >= threshold;
}

/* The next `size` bytes will be needed soon. */
static inline void fetch(const void* next, int64_t size) {
#if defined(__GNUC__)
    for (int64_t i = 0; i < size; i += 64) __builtin_prefetch((const char*) next + i);
#endif
}

/* For each byte of upper bits (spladelite/index/ascending.py): how many ones it has, and 256 times the zeros before each. */
static const struct Upper {
    uint8_t ones[256];
    uint16_t high[256][8];

    Upper() : ones(), high() {
        for (int byte = 0; byte < 256; byte++)
            for (int place = 0; place < 8; place++)
                if (byte << place & 128) {
                    high[byte][ones[byte]] = (uint16_t) ((place - ones[byte]) << 8);
                    ones[byte]++;
                }
    }
} UPPER;

/* Put low and high bytes of `count` ordinals together. Returns the last, which may exceed uint16; -1 if the bits do not
   fit `count`. The high byte is the number of zeros before a one: it does not descend, so if the last ordinal fits
   uint16, all do. */
FOR_EACH_PROCESSOR
static int64_t widen(
    const uint8_t* low, const uint8_t* upper, int64_t upper_length, int64_t count, uint16_t* ordinals
) {
    int64_t i = 0, byte = 0, last = -1;
    for (; i + 8 < count && byte < upper_length; byte++) {
        const uint16_t* more = UPPER.high[upper[byte]];
        const uint16_t high = (uint16_t) ((8 * byte - i) << 8);
        uint16_t eight[8];
        for (int j = 0; j < 8; j++) eight[j] = (uint16_t) (high + more[j]) | low[i + j];
        std::memcpy(ordinals + i, eight, sizeof(eight)); /* the next byte overwrites those that this one does not have */
        i += UPPER.ones[upper[byte]];
    }
    for (int64_t place = 8 * byte; place < 8 * upper_length; place++)
        if (upper[place >> 3] << (place & 7) & 128) {
            if (i == count) return -1;
            last = (place - i) << 8 | low[i];
            ordinals[i++] = (uint16_t) last;
        }
    return i == count ? last : -1;
}

/* Without an early exit, this vectorises. */
FOR_EACH_PROCESSOR
static bool ascends(const uint16_t* ordinals, int64_t count) {
    int wrong = 0;
    for (int64_t i = 1; i < count; i++) wrong |= ordinals[i] <= ordinals[i - 1];
    return !wrong;
}

/* Ranks of rows whose magnitudes have few leading bits, as those of task vectors of bfloat16 models do.

   Such a row is ranked by a counting sort on these bits, so that there are few buckets and nearly all hold one magnitude;
   the entries that have more bits are odd, and sorted. Which bits these are is told of one row and used for those that
   follow: that decides how long a row takes, never its ranks. */
#include "ranks.h"

#define SPAN (15 << 23) /* no buckets for magnitudes so far below the largest: 15 powers of two */
#define MOVES 4         /* of insertion, for each entry, before it gives up */
#define FEWEST 4        /* of entries there is at most one odd one among so many */
#define ODD_TAKES 26    /* times as long as a bucket does */
#define ROWS 32         /* for which leading bits are used before they are told again */
#define OTHER_ROWS 8    /* that are not looked at after one that has none */
#define MASK 64         /* entries whose being odd makes a word */

typedef uint32_t u4 __attribute__((vector_size(16)));

/* Tell which leading bits rank a row soonest; 0 where none make magnitudes of nearly all entries. */
static int find_leading(const ranking *r, const float *row, leading *l)
{
    uint32_t most = 0, least = UINT32_MAX, odd[3] = {0}; /* least: less one, which leaves out zeros */
    int64_t soonest = INT64_MAX;
    for (int64_t i = 0; i < r->columns; i++) {
        uint32_t key = bits_of(row[i]) & 0x7fffffffu;
        most = key > most ? key : most;
        least = key - 1 < least ? key - 1 : least;
        odd[0] += (key & 0xfffffu) != 0;
        odd[1] += (key & 0x3ffffu) != 0;
        odd[2] += (key & 0xffffu) != 0;
    }
    for (int i = 0; i < 3; i++) {
        int32_t shift = 20 - 2 * i, high = (int32_t)(most >> shift), low = (int32_t)((least + 1) >> shift);
        if (high - low > SPAN >> shift) low = high - (SPAN >> shift);
        int32_t n_buckets = high - low + 1 + LOWEST;
        int64_t takes = (int64_t)odd[i] * ODD_TAKES + n_buckets;
        if (odd[i] > r->columns / FEWEST || n_buckets > 2 * r->columns || takes >= soonest) continue;
        *l = (leading){.shift = shift, .low = low ? low : 1, .high = high};
        soonest = takes;
    }
    return soonest < INT64_MAX;
}

/* The bucket behind the last: how many there are. */
static inline int32_t last_of(const leading *l)
{
    return l->high - l->low + 1 + LOWEST;
}

static inline uint64_t signs_of(i8 mask)
{
#ifdef __AVX__
    return (uint64_t)_mm256_movemask_ps((__m256)mask);
#else
    uint64_t signs = 0;
    for (int i = 0; i < 8; i++) signs |= (uint64_t)(mask[i] & 1) << i;
    return signs;
#endif
}

/* The buckets of MASK entries, odd ones' behind the last; which are odd. */
static inline uint64_t find_masked(const leading *l, const float *row, uint16_t *bucket)
{
    static const i8 places = {0, 1, 2, 3, 4, 5, 6, 7};
    uint64_t mask = 0;
    for (int i = 0; i < MASK; i += 8) {
        i8 key = (i8)eight(row + i) & 0x7fffffff, own = key >> l->shift, is_zero = key == 0, far = own < l->low;
        own = (own & ~far) | (l->low & far);
        far = own > l->high;
        own = (own & ~far) | (l->high & far);
        i8 odd = (own << l->shift != key) & ~is_zero;
        own = (places & is_zero) | ((own - (l->low - LOWEST)) & ~is_zero);
        own = (own & ~odd) | (last_of(l) & odd);
        h8 narrow = __builtin_convertvector((u8)own, h8);
        memcpy(bucket + i, &narrow, sizeof narrow);
        mask |= signs_of(odd) << i;
    }
    return mask;
}

/* The buckets of all entries, and the places of those that are odd: how many, or -1 where they are too many. */
static int64_t find_buckets(const ranking *r, const leading *l, const float *row, uint16_t *bucket, uint32_t *odd)
{
    int64_t n = r->columns, found = 0;
    leading own = *l;
    float last[MASK] = {0};
    for (int64_t at = 0; at < n && found <= n / FEWEST; at += MASK) {
        const float *from = row + at;
        if (n - at < MASK) from = memcpy(last, from, sizeof(float) * (size_t)(n - at));
        for (uint64_t mask = find_masked(&own, from, bucket + at); mask; mask &= mask - 1)
            odd[found++] = (uint32_t)(at + __builtin_ctzll(mask));
    }
    for (int64_t i = n; i % 8; i++) bucket[i] = (uint16_t)last_of(l);
    return found > n / FEWEST ? -1 : found;
}

/* How many entries of its counter are before each one; the counters are then how many there are. Both halves of the row
   are worked on at once, for entries of one counter wait for each other. */
static void count_before(ranking *r, const uint16_t *restrict bucket, int64_t half)
{
    uint32_t *restrict first = r->counters[0], *restrict later = r->counters[1], *restrict ranks = r->ranks;
    for (int64_t i = 0; i < half; i += 4) {
        u4 before, also;
        for (int k = 0; k < 4; k++) {
            before[k] = first[bucket[i + k]]++;
            also[k] = later[bucket[half + i + k]]++;
        }
        memcpy(ranks + i, &before, sizeof before);
        memcpy(ranks + half + i, &also, sizeof also);
    }
}

/* Ranks of n entries from how many are before, once each counter is the rank of the first one that it counted. */
static void give_ranks(const uint32_t *restrict counters, const uint16_t *restrict bucket, int64_t n,
                       uint32_t *restrict ranks)
{
    for (int64_t i = 0; i < n; i += 4) {
        u4 before, first = {counters[bucket[i]], counters[bucket[i + 1]], counters[bucket[i + 2]], counters[bucket[i + 3]]};
        memcpy(&before, ranks + i, sizeof before);
        first -= before;
        memcpy(ranks + i, &first, sizeof first);
    }
}

/* What is before each in sum, of eight. */
static inline u8 summed(u8 x)
{
    static const u8 none = {0};
    x += __builtin_shuffle(none, x, (u8){7, 8, 9, 10, 11, 12, 13, 14});
    x += __builtin_shuffle(none, x, (u8){6, 7, 8, 9, 10, 11, 12, 13});
    return x + __builtin_shuffle(none, x, (u8){4, 5, 6, 7, 8, 9, 10, 11});
}

/* From how many entries the counters counted to the ranks of the first ones, and how many odd ones to none; behind the
   first one in the first half come the odd ones. */
static void rank_first(ranking *r, int32_t n_buckets)
{
    u8 below = {0};
    for (int32_t b = 0; b < n_buckets; b += 8) {
        u8 first, later, odd;
        memcpy(&odd, r->odd + b, sizeof odd);
        memcpy(&first, r->counters[0] + b, sizeof first);
        memcpy(&later, r->counters[1] + b, sizeof later);
        first += later;
        u8 all = summed(first + odd), rank = all - odd - first + below - 1;
        below += (u8){0} + all[7];
        first += rank;
        later += rank;
        memcpy(r->counters[0] + b, &first, sizeof first);
        memcpy(r->counters[1] + b, &later, sizeof later);
    }
}

/* Of an odd one: those below all buckets have one before the lowest. */
static inline int32_t bucket_of(const leading *l, float x)
{
    int32_t bucket = (int32_t)((bits_of(x) & 0x7fffffffu) >> l->shift);
    bucket = bucket < l->low ? l->low - 1 : bucket > l->high ? l->high : bucket;
    return bucket - l->low + LOWEST;
}

/* Ranks of odd entries, behind the others of their buckets; 0 when it is given up. */
static int place_odd(ranking *r, const float *row, const uint32_t *odd, int64_t n_odd)
{
    const uint32_t *theirs = odd + r->columns, *last = r->counters[0];
    uint32_t *placed = r->odd;
    uint64_t *sorted = r->spare;
    int64_t left = MOVES * r->columns;
    for (int64_t i = 0; i < n_odd; i++) placed[theirs[i]] = 0;
    for (int64_t i = 0; i < n_odd && left >= 0; i++) {
        uint64_t moved = entry(row, odd[i], r->columns);
        uint32_t b = theirs[i], first = last[b] + 1, to = first + placed[b]++;
        for (; to > first && sorted[to - 1] > moved && left >= 0; to--, left--) sorted[to] = sorted[to - 1];
        sorted[to] = moved;
    }
    for (int64_t i = 0; i < n_odd; i++) {
        uint32_t b = theirs[i], first = last[b] + 1, end = first + placed[b];
        for (uint32_t rank = first; rank < end; rank++) r->ranks[r->columns - 1 - (uint32_t)sorted[rank]] = rank;
        placed[b] = 0;
    }
    return left >= 0;
}

/* The buckets of a row's entries by the leading bits of those before, or by its own; how many are odd, or -1. */
static int64_t find_own(ranking *r, leading *l, const float *row, uint16_t *bucket, uint32_t *odd)
{
    int64_t n_odd = -1;
    if (l->rows < 0) return l->rows++, n_odd;
    if (l->rows) n_odd = find_buckets(r, l, row, bucket, odd);
    if (n_odd < 0) {
        if (find_leading(r, row, l)) n_odd = find_buckets(r, l, row, bucket, odd);
        l->rows = n_odd < 0 ? -OTHER_ROWS : ROWS;
    }
    l->rows -= n_odd >= 0;
    return n_odd;
}

int rank_leading(ranking *r, leading *l, const float *row)
{
    static const u8 none = {0};
    uint16_t *bucket = (uint16_t *)r->bucket;
    int64_t half = (r->columns + 7) / 8 * 4;
    uint32_t *odd = (uint32_t *)r->sorted;
    int64_t n_odd = find_own(r, l, row, bucket, odd);
    if (n_odd < 0) return 0;
    int32_t n_buckets = last_of(l);
    for (int32_t b = 0; b < n_buckets; b += 8)
        for (int w = 0; w < WAYS; w++) memcpy(r->counters[w] + b, &none, sizeof none);
    count_before(r, bucket, half);
    for (int64_t i = 0; i < n_odd; i++) r->odd[odd[r->columns + i] = (uint32_t)bucket_of(l, row[odd[i]])]++;
    rank_first(r, n_buckets);
    for (int w = 0; w < WAYS; w++) give_ranks(r->counters[w], bucket + w * half, half, r->ranks + w * half);
    if (!n_odd || place_odd(r, row, odd, n_odd)) return 1;
    l->rows = 0;
    return 0;
}

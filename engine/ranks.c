/* Dropping by rank: which entries of each row stay by chance, where larger ones have the better chances.

   A row whose magnitudes have more than a few leading bits gets as many buckets as it has entries. Where those held
   different magnitudes, what is nearly sorted is put in order by insertion, or, when that takes too many moves, by a radix
   sort; so a row takes time in proportion to its length whatever it holds. */
#include "ranks.h"

#define SPAN (15 << 23)   /* magnitudes that are 15 powers of two below a row's largest share a bucket */
#define MOVES 4           /* of insertion, for each entry, before it gives up */
#define CORRECTED 0x1p20f /* no quotient of integers below is so near the middle of two floats that one correction errs */

static inline uint32_t key_of(float x)
{
    return bits_of(x) & 0x7fffffffu;
}

/* The bucket of each entry, and how many there are: 0 for zeros, more for larger magnitudes. */
static int64_t find_buckets(ranking *r, const float *row)
{
    int64_t n = r->columns;
    uint32_t *restrict bucket = r->bucket, most = 0, least = UINT32_MAX; /* least: less one, which leaves out zeros */
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = key_of(row[i]);
        most = key > most ? key : most;
        least = key - 1 < least ? key - 1 : least;
    }
    int32_t low = (int32_t)(least + 1), shift = 0;
    if ((int32_t)most - low > SPAN) low = (int32_t)most - SPAN;
    int32_t range = (int32_t)most - low;
    while (range >> shift > n) shift++;
    for (int64_t i = 0; i < n; i++) {
        int32_t key = (int32_t)key_of(row[i]), above = key - low;
        bucket[i] = (uint32_t)((above < 0 ? 0 : above) >> shift) + (key != 0);
    }
    return (range >> shift) + 2;
}

/* Where each bucket ends. Both halves of the row are worked on at once, for entries of one bucket wait for each other. */
static void count_buckets(ranking *r, int64_t n_buckets)
{
    int64_t n = r->columns, half = n / 2;
    const uint32_t *restrict bucket = r->bucket;
    uint32_t *restrict ends = r->ends, sum = 0;
    memset(ends, 0, sizeof(uint32_t) * 2 * (size_t)n_buckets);
    for (int64_t i = 0; i < half; i++) {
        ends[2 * bucket[i]]++;
        ends[2 * bucket[half + i] + 1]++;
    }
    if (n % 2) ends[2 * bucket[n - 1] + 1]++;
    for (int64_t b = 0; b < 2 * n_buckets; b += 2) {
        uint32_t first = ends[b], later = ends[b + 1];
        ends[b + 1] = sum + later;
        ends[b] = sum += first + later;
    }
}

/* Bring entries in the order of their buckets, the later ones of a bucket first, and give each the rank of its place. */
static void fill_buckets(ranking *r, const float *restrict row, int64_t n_buckets)
{
    int64_t n = r->columns, half = n / 2;
    const uint32_t *restrict bucket = r->bucket;
    uint32_t *restrict ends = r->ends;
    uint64_t *restrict sorted = r->sorted;
    uint32_t *restrict ranks = r->ranks;
    count_buckets(r, n_buckets);
    for (int64_t i = 0, j = half; i < half; i++, j++) {
        uint32_t to = --ends[2 * bucket[i]], also = --ends[2 * bucket[j] + 1];
        sorted[to] = entry(row, i, n);
        ranks[i] = to;
        sorted[also] = entry(row, j, n);
        ranks[j] = also;
    }
    if (n % 2) {
        uint32_t to = --ends[2 * bucket[n - 1] + 1];
        sorted[to] = entry(row, n - 1, n);
        ranks[n - 1] = to;
    }
}

static int is_sorted(const ranking *r)
{
    uint64_t bad = 0;
    for (int64_t i = 1; i < r->columns; i++) bad |= r->sorted[i] < r->sorted[i - 1];
    return !bad;
}

static inline void put(ranking *r, int64_t rank, uint64_t entry)
{
    r->sorted[rank] = entry;
    r->ranks[r->columns - 1 - (uint32_t)entry] = (uint32_t)rank;
}

/* Put in order what nearly is; 0 when it is given up. */
static int insert_all(ranking *r)
{
    int64_t n = r->columns, left = MOVES * n;
    for (int64_t i = 1; i < n; i++) {
        uint64_t moved = r->sorted[i];
        int64_t to = i, last = i > left ? i - left : 0;
        if (r->sorted[i - 1] < moved) continue;
        for (; to > last && r->sorted[to - 1] > moved; to--) put(r, to, r->sorted[to - 1]);
        put(r, to, moved);
        left -= i - to;
        if (left <= 0) return 0;
    }
    return 1;
}

/* Sort a row, the lowest digit first; digits that all entries share are passed over. */
static void sort_digits(ranking *r, const float *row)
{
    int64_t n = r->columns;
    memset(r->counts, 0, sizeof r->counts);
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = key_of(row[i]);
        for (int d = 0; d < 3; d++) r->counts[d][(key >> (11 * d)) & (DIGIT - 1)]++;
        r->sorted[n - 1 - i] = entry(row, i, n);
    }
    for (int d = 0; d < 3; d++) {
        uint32_t *counts = r->counts[d], sum = 0;
        uint64_t *from = r->sorted, *to = r->spare;
        if (counts[(key_of(row[0]) >> (11 * d)) & (DIGIT - 1)] == n) continue;
        for (int b = 0; b < DIGIT; b++) {
            uint32_t count = counts[b];
            counts[b] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++) to[counts[(from[i] >> (32 + 11 * d)) & (DIGIT - 1)]++] = from[i];
        r->sorted = to;
        r->spare = from;
    }
}

/* The rank of each entry of a row. */
static void find_ranks(ranking *r, leading *l, const float *row)
{
    if (rank_leading(r, l, row)) return;
    fill_buckets(r, row, find_buckets(r, row));
    if (is_sorted(r) || insert_all(r)) return;
    sort_digits(r, row);
    for (int64_t i = 0; i < r->columns; i++) put(r, i, r->sorted[i]);
}

/* x / by, of integers; `inverse` is 1 / by, or 0 where `by` is too large to correct the quotient. */
static inline float part_of(float x, float by, float inverse)
{
#ifdef __FMA__
    float near = x * inverse;
    if (inverse != 0.0f) return fmaf(fmaf(-near, by, x), inverse, near);
#else
    (void)inverse;
#endif
    return x / by;
}

/* The chances of n entries of their ranks, of which `most` is the highest. */
static void find_chances(const dropping *d, const uint32_t *restrict ranks, float most, int n, float *restrict chances)
{
    float more = d->more, least = d->least, inverse = most < CORRECTED ? 1.0f / most : 0.0f;
    for (int i = 0; i < n; i++) {
        float chance = part_of((float)(int32_t)ranks[i], most, inverse) * more + least;
        chance = chance > 0.0f ? chance : 0.0f;
        chances[i] = chance < 1.0f ? chance : 1.0f;
    }
}

/* n entries: those that stay remain as they are or are divided by their chance, of the others 0 of its sign. */
static void drop(const uint32_t *restrict words, const float *restrict chances, int n, int by_chance, float *restrict x)
{
    for (int i = 0; i < n; i++) {
        float chance = chances[i], kept = x[i] * ((float)(int32_t)(words[i] >> 8) * 0x1p-24f < chance ? 1.0f : 0.0f);
        x[i] = by_chance ? kept / (chance > 1e-30f ? chance : 1e-30f) : kept;
    }
}

void drop_row(ranking *r, dropping *d, float *row)
{
    uint32_t words[SUB];
    float chances[SUB];
    dropping own = *d;
    float most = (float)(r->columns - 1);
    if (r->columns == 1) { /* its chance is between both */
        own.least += 0.5f * own.more;
        own.more = 0.0f;
        most = 1.0f;
    }
    find_ranks(r, &d->last, row);
    for (int64_t at = 0; at < r->columns; at += SUB) {
        int n = r->columns - at < SUB ? (int)(r->columns - at) : SUB;
        draw(&d->words, n, words);
        find_chances(&own, r->ranks + at, most, n, chances);
        drop(words, chances, n, d->by_chance, row + at);
    }
}

int open_ranking(ranking *r, int64_t columns)
{
    size_t n = (size_t)columns + 64;
    r->columns = columns;
    memset(r->odd, 0, sizeof r->odd);
    r->memory = malloc(n * (2 * sizeof(uint64_t) + 4 * sizeof(uint32_t)));
    if (!r->memory) return 0;
    r->sorted = r->memory;
    r->spare = r->sorted + n;
    r->ranks = (uint32_t *)(r->spare + n);
    r->bucket = r->ranks + n;
    r->ends = r->bucket + n;
    return 1;
}

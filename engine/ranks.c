/* Dropping by rank: which entries of each row stay by chance, where larger ones have the better chances.

   A row is ranked by a counting sort on the leading bits of its magnitudes, as many buckets as it has entries. Where
   buckets held different magnitudes, what is nearly sorted is put in order by insertion, or, when that takes too many
   moves, by a radix sort; so a row takes time in proportion to its length whatever it holds. */
#include "draws.h"

#define SPAN (15 << 23) /* magnitudes that are 15 powers of two below a row's largest share a bucket */
#define MOVES 4         /* of insertion, for each entry, before it gives up */
#define DIGIT 2048      /* of 11 bits; three make a magnitude */

/* Memory for one row. Entries are sorted as key << 32 | columns - 1 - place: of equal magnitudes the first is the last. */
typedef struct {
    int64_t columns;
    uint64_t *sorted, *spare;
    uint32_t *bucket, *ends; /* of entries; of buckets, one for each half of the row */
    float *by_rank, *stays;  /* chances of ranks, and of entries */
    uint32_t counts[3][DIGIT];
} ranking;

static inline uint32_t key_of(float x)
{
    return bits_of(x) & 0x7fffffffu;
}

static inline uint64_t entry(const float *row, int64_t i, int64_t columns)
{
    return (uint64_t)key_of(row[i]) << 32 | (uint32_t)(columns - 1 - i);
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

/* Bring entries in the order of their buckets, the later ones of a bucket first, and give each the chance of its place.
   Both halves of the row are worked on at once, for entries of one bucket wait for each other. */
static void fill_buckets(ranking *r, const float *restrict row, int64_t n_buckets)
{
    int64_t n = r->columns, half = n / 2;
    const uint32_t *restrict bucket = r->bucket;
    const float *restrict by_rank = r->by_rank;
    uint32_t *restrict ends = r->ends, sum = 0;
    uint64_t *restrict sorted = r->sorted;
    float *restrict stays = r->stays;
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
    for (int64_t i = 0, j = half; i < half; i++, j++) {
        uint32_t to = --ends[2 * bucket[i]], also = --ends[2 * bucket[j] + 1];
        sorted[to] = entry(row, i, n);
        stays[i] = by_rank[to];
        sorted[also] = entry(row, j, n);
        stays[j] = by_rank[also];
    }
    if (n % 2) {
        uint32_t to = --ends[2 * bucket[n - 1] + 1];
        sorted[to] = entry(row, n - 1, n);
        stays[n - 1] = by_rank[to];
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
    r->stays[r->columns - 1 - (uint32_t)entry] = r->by_rank[rank];
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

/* The chance of each entry of a row. */
static void find_chances(ranking *r, const float *row)
{
    fill_buckets(r, row, find_buckets(r, row));
    if (is_sorted(r) || insert_all(r)) return;
    sort_digits(r, row);
    for (int64_t i = 0; i < r->columns; i++) put(r, i, r->sorted[i]);
}

/* n entries, those that stay as they are or divided by their chance, and 0 of its sign for the others. */
static void drop(stream *s, const float *restrict x, const float *restrict stays, int n, int by_chance,
                 float *restrict out)
{
    uint32_t words[SUB];
    draw(s, n, words);
    for (int i = 0; i < n; i++) {
        float chance = stays[i], kept = x[i] * ((float)(int32_t)(words[i] >> 8) * 0x1p-24f < chance ? 1.0f : 0.0f);
        out[i] = by_chance ? kept / (chance < 1e-30f ? 1e-30f : chance) : kept;
    }
}

static int open_ranking(ranking *r, int64_t columns)
{
    size_t n = (size_t)columns + 2;
    r->columns = columns;
    r->sorted = malloc(n * (2 * sizeof(uint64_t) + 3 * sizeof(uint32_t) + 2 * sizeof(float)));
    if (!r->sorted) return 0;
    r->spare = r->sorted + n;
    r->bucket = (uint32_t *)(r->spare + n);
    r->ends = r->bucket + n;
    r->by_rank = (float *)(r->ends + 2 * n);
    r->stays = r->by_rank + n;
    return 1;
}

/* Drop entries of (rows, columns) by their ranks within rows; chances go from `least` in even steps to `least` + `more`,
   cut off at 0 and 1. 0: there is no memory. */
int32_t drop_by_rank(const float *delta, int64_t rows, int64_t columns, const uint64_t *key, int64_t start, float least,
                     float more, int32_t by_chance, float *out)
{
    ranking r;
    stream s;
    if (!open_ranking(&r, columns)) return 0;
    uint64_t *memory = r.sorted;
    for (int64_t i = 0; i < columns; i++) {
        float place = columns > 1 ? (float)i / (float)(columns - 1) : 0.5f;
        float chance = place * more + least;
        r.by_rank[i] = chance < 0.0f ? 0.0f : chance > 1.0f ? 1.0f : chance;
    }
    begin(&s, key, start);
    for (int64_t first = 0; first < rows * columns; first += columns) {
        find_chances(&r, delta + first);
        for (int64_t at = 0; at < columns; at += SUB) {
            int n = columns - at < SUB ? (int)(columns - at) : SUB;
            drop(&s, delta + first + at, r.stays + at, n, by_chance, out + first + at);
        }
    }
    free(memory);
    return 1;
}

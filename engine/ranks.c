/* Dropping by rank: which entries of each row stay by chance, where larger ones have the better chances.

   A row is ranked by a counting sort on the leading bits of its magnitudes. Those of task vectors of bfloat16 models have
   few more bits than that, so that there are few buckets and nearly all hold one magnitude; the others are sorted. A row
   that is not of that kind gets as many buckets as it has entries. Where those held different magnitudes, what is nearly
   sorted is put in order by insertion, or, when that takes too many moves, by a radix sort; so a row takes time in
   proportion to its length whatever it holds. */
#include "ranks.h"

#define SPAN (15 << 23) /* magnitudes that are 15 powers of two below a row's largest share a bucket */
#define MOVES 4         /* of insertion, for each entry, before it gives up */
#define ZEROS 16        /* buckets over which zeros are spread, whose ranks nobody needs: what stays of them is 0 */
#define FEWEST 16       /* of entries there is at most one odd one among so many */
#define WAYS 4          /* parts of a row that are counted apart */

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

/* Bring entries in the order of their buckets, the later ones of a bucket first, and give each the chance of its place. */
static void fill_buckets(ranking *r, const float *restrict row, int64_t n_buckets)
{
    int64_t n = r->columns, half = n / 2;
    const uint32_t *restrict bucket = r->bucket;
    const float *restrict by_rank = r->by_rank;
    uint32_t *restrict ends = r->ends;
    uint64_t *restrict sorted = r->sorted;
    float *restrict stays = r->stays;
    count_buckets(r, n_buckets);
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

/* How buckets are made of leading bits: how many bits go, the lowest that count, how many buckets there are. Keys up to
   `below` share the lowest bucket whatever they are. */
typedef struct {
    int32_t shift, low, n_buckets;
    uint32_t below;
} leading;

/* Tell which leading bits make magnitudes of nearly all entries; 0 where none do. */
static int find_leading(const ranking *r, const float *row, leading *l)
{
    uint32_t most = 0, least = UINT32_MAX, odd[3] = {0}; /* least: less one, which leaves out zeros */
    for (int64_t i = 0; i < r->columns; i++) {
        uint32_t key = key_of(row[i]);
        most = key > most ? key : most;
        least = key - 1 < least ? key - 1 : least;
        odd[0] += (key & 0xfffffu) != 0;
        odd[1] += (key & 0x3ffffu) != 0;
        odd[2] += (key & 0xffffu) != 0;
    }
    for (int i = 0; i < 3; i++) {
        l->shift = 20 - 2 * i;
        int32_t high = (int32_t)(most >> l->shift), span = SPAN >> l->shift, low = (int32_t)((least + 1) >> l->shift);
        l->low = high - span > low ? high - span : low;
        l->n_buckets = high - l->low + 1 + ZEROS;
        l->below = l->low > low ? ((uint32_t)(l->low + 1) << l->shift) - 1 : 0;
        if (odd[i] <= r->columns / (i < 2 ? 8 * FEWEST : 2 * FEWEST) && l->n_buckets <= r->columns) return 1;
    }
    return 0;
}

/* Eight entries' buckets, the first of them at place `at`; which of them have another key than their bucket's. */
static inline i8 buckets_of(const leading *l, const float *row, int64_t at, u8 *buckets)
{
    static const u8 places = {0, 1, 2, 3, 4, 5, 6, 7};
    u8 key = (u8)eight(row) & 0x7fffffffu;
    i8 above = (i8)(key >> l->shift) - l->low, zero = (i8)(key == 0);
    above = (above & ~(above < 0)) + ZEROS;
    *buckets = (u8)((above & ~zero) | ((i8)(places + (uint32_t)at % ZEROS) & zero));
    return (i8)((key & ((1u << l->shift) - 1)) != 0) | (i8)(key - 1 < l->below);
}

/* The counters of eight entries, `ways` of each bucket, for as many parts of the row; `n` of them are in the row. Odd ones
   get one behind the last, and go to a list that has `found`, with their buckets behind it; how many those are then. */
static inline __attribute__((always_inline)) int64_t find_odd(ranking *r, const leading *l, const float *row, int64_t at,
                                                              int n, int ways, uint32_t *odd, int64_t found)
{
    uint32_t *theirs = odd + r->columns;
    u8 buckets;
    i8 is_odd = buckets_of(l, row, at, &buckets);
    u8 counters = buckets * (uint32_t)ways;
    memcpy(r->bucket + at, &counters, sizeof counters);
    if (!any(is_odd)) return found;
    for (int i = 0; i < n; i++) {
        if (!is_odd[i]) continue;
        odd[found] = (uint32_t)(at + i);
        theirs[found++] = buckets[i];
        r->bucket[at + i] = (uint32_t)(l->n_buckets * ways);
    }
    return found;
}

/* The same of a row: how many are odd, or -1 where they are too many. */
static int64_t find_counters(ranking *r, const float *row, const leading *l, int ways, uint32_t *odd)
{
    int64_t n = r->columns, found = 0, at = 0;
    leading own = *l;
    float last[8] = {0};
    for (; at + 8 <= n && found <= n / FEWEST; at += 8) found = find_odd(r, &own, row + at, at, 8, ways, odd, found);
    if (found <= n / FEWEST && at < n) {
        memcpy(last, row + at, sizeof(float) * (size_t)(n - at));
        found = find_odd(r, &own, last, at, (int)(n - at), ways, odd, found);
    }
    return found > n / FEWEST ? -1 : found;
}

/* How many entries of its counter are before each one; the counters are then how many there are. Parts of the row take
   turns, for entries of one counter wait for each other. */
static inline __attribute__((always_inline)) void count_before(ranking *r, uint32_t *restrict counters, int ways)
{
    int64_t each = r->columns / ways;
    const uint32_t *restrict bucket = r->bucket;
    uint32_t *restrict before = (uint32_t *)r->stays;
    for (int64_t i = 0; i < each; i++)
        for (int w = 0; w < ways; w++) before[w * each + i] = counters[bucket[w * each + i] + (uint32_t)w]++;
    for (int64_t i = ways * each; i < r->columns; i++)
        before[i] = counters[bucket[i] + (uint32_t)(ways - 1)]++;
}

/* From how many entries the counters of a bucket counted to the ranks of the first ones, where `sum` rank below; returns
   how many do with these. */
static inline __attribute__((always_inline)) uint32_t rank_first(uint32_t *counters, int ways, uint32_t sum)
{
    uint32_t here = 0;
    for (int w = ways; w--;) {
        here += counters[w];
        counters[w] = sum + here - 1;
    }
    return sum + here;
}

/* The chance of each entry that is not odd, once its counter is the rank of the first one that it counted. */
static inline __attribute__((always_inline)) void give_chances(ranking *r, const uint32_t *restrict counters, int ways)
{
    int64_t each = r->columns / ways;
    const uint32_t *restrict bucket = r->bucket;
    const float *restrict by_rank = r->by_rank;
    float *stays = r->stays;
    for (int w = 0; w < ways; w++) {
        int64_t end = w + 1 < ways ? (w + 1) * each : r->columns;
        for (int64_t i = w * each; i < end; i++)
            stays[i] = by_rank[counters[bucket[i] + (uint32_t)w] - bits_of(stays[i])];
    }
}

/* The chances of odd entries: ranks from `first` of their bucket on; 0 when it is given up. `next` is as `first`. */
static int place_odd(ranking *r, const float *row, const uint32_t *odd, int64_t n_odd, const uint32_t *first,
                     uint32_t *next)
{
    const uint32_t *theirs = odd + r->columns;
    uint64_t *sorted = r->spare;
    int64_t left = MOVES * r->columns;
    for (int64_t i = 0; i < n_odd && left >= 0; i++) {
        uint64_t moved = entry(row, odd[i], r->columns);
        uint32_t b = theirs[i], to = next[b]++;
        for (; to > first[b] && sorted[to - 1] > moved && left >= 0; to--, left--) sorted[to] = sorted[to - 1];
        sorted[to] = moved;
    }
    for (int64_t i = 0; i < n_odd && left >= 0; i++) {
        uint32_t b = theirs[i];
        for (uint32_t rank = first[b]; rank < next[b]; rank++)
            r->stays[r->columns - 1 - (uint32_t)sorted[rank]] = r->by_rank[rank];
        next[b] = first[b];
    }
    return left >= 0;
}

/* The chance of each entry of a row whose magnitudes have few bits; 0 when it is given up. */
static int find_few(ranking *r, const float *row)
{
    leading l;
    if (!find_leading(r, row, &l)) return 0;
    int ways = WAYS * l.n_buckets < r->columns ? WAYS : 1;
    uint32_t *odd = (uint32_t *)r->sorted, *counters = r->ends, *first = counters + (l.n_buckets + 1) * ways;
    uint32_t *next = first + l.n_buckets, sum = 0;
    int64_t n_odd = find_counters(r, row, &l, ways, odd);
    if (n_odd < 0) return 0;
    memset(counters, 0, sizeof(uint32_t) * (size_t)((l.n_buckets + 1) * ways));
    ways == 1 ? count_before(r, counters, 1) : count_before(r, counters, WAYS);
    if (n_odd) memset(next, 0, sizeof(uint32_t) * (size_t)l.n_buckets);
    for (int64_t i = 0; i < n_odd; i++) next[odd[r->columns + i]]++;
    for (int32_t b = 0; b < l.n_buckets; b++) {
        sum = ways == 1 ? rank_first(counters + b, 1, sum) : rank_first(counters + b * WAYS, WAYS, sum);
        if (!n_odd) continue;
        first[b] = sum;
        sum += next[b];
        next[b] = first[b];
    }
    for (int w = 0; w < ways; w++) counters[l.n_buckets * ways + w] = (uint32_t)(r->columns - 1); /* any rank */
    ways == 1 ? give_chances(r, counters, 1) : give_chances(r, counters, WAYS);
    return !n_odd || place_odd(r, row, odd, n_odd, first, next);
}

/* The chance of each entry of a row. */
static void find_chances(ranking *r, const float *row)
{
    if (find_few(r, row)) return;
    fill_buckets(r, row, find_buckets(r, row));
    if (is_sorted(r) || insert_all(r)) return;
    sort_digits(r, row);
    for (int64_t i = 0; i < r->columns; i++) put(r, i, r->sorted[i]);
}

/* n entries: those that stay remain as they are or are divided by their chance, of the others 0 of its sign. */
static void drop(stream *s, float *restrict x, const float *restrict stays, int n, int by_chance)
{
    uint32_t words[SUB];
    draw(s, n, words);
    for (int i = 0; i < n; i++) {
        float chance = stays[i], kept = x[i] * ((float)(int32_t)(words[i] >> 8) * 0x1p-24f < chance ? 1.0f : 0.0f);
        x[i] = by_chance ? kept / (chance < 1e-30f ? 1e-30f : chance) : kept;
    }
}

void drop_row(ranking *r, stream *s, int by_chance, float *row)
{
    find_chances(r, row);
    for (int64_t at = 0; at < r->columns; at += SUB) {
        int n = r->columns - at < SUB ? (int)(r->columns - at) : SUB;
        drop(s, row + at, r->stays + at, n, by_chance);
    }
}

int open_ranking(ranking *r, int64_t columns)
{
    size_t n = (size_t)columns + 8;
    r->columns = columns;
    r->memory = malloc(n * (2 * sizeof(uint64_t) + 4 * sizeof(uint32_t) + sizeof(float)));
    if (!r->memory) return 0;
    r->sorted = r->memory;
    r->spare = r->sorted + n;
    r->bucket = (uint32_t *)(r->spare + n);
    r->ends = r->bucket + n;
    r->stays = (float *)(r->ends + 3 * n);
    return 1;
}

void fill_chances(int64_t columns, float least, float more, float *by_rank)
{
    for (int64_t i = 0; i < columns; i++) {
        float place = columns > 1 ? (float)i / (float)(columns - 1) : 0.5f;
        float chance = place * more + least;
        by_rank[i] = chance < 0.0f ? 0.0f : chance > 1.0f ? 1.0f : chance;
    }
}

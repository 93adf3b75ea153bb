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
    uint32_t most = 0, odd[3] = {0};
    for (int64_t i = 0; i < r->columns; i++) {
        uint32_t key = key_of(row[i]);
        most = key > most ? key : most;
        odd[0] += (key & 0xfffffu) != 0;
        odd[1] += (key & 0x3ffffu) != 0;
        odd[2] += (key & 0xffffu) != 0;
    }
    for (int i = 0; i < 3; i++) {
        l->shift = 20 - 2 * i;
        int32_t high = (int32_t)(most >> l->shift), span = SPAN >> l->shift;
        l->low = high > span ? high - span : 0;
        l->n_buckets = high - l->low + 1 + ZEROS;
        l->below = l->low ? ((uint32_t)(l->low + 1) << l->shift) - 1 : 0;
        if (odd[i] <= r->columns / (i < 2 ? 8 * FEWEST : 2 * FEWEST) && l->n_buckets <= r->columns) return 1;
    }
    return 0;
}

/* Tell whether a key is another one than its bucket's. */
static inline int is_odd(const leading *l, uint32_t key)
{
    return ((key & ((1u << l->shift) - 1)) != 0) | (key - 1 < l->below);
}

/* Tell whether any of eight entries is odd. */
static inline int has_odd(const leading *l, const float *row)
{
    u8 key = (u8)eight(row) & 0x7fffffffu;
    return any((i8)((key & ((1u << l->shift) - 1)) != 0) | (i8)(key - 1 < l->below));
}

/* The bucket of each entry, and places of odd ones; how many, or -1 where they are too many. */
static int64_t find_odd(ranking *r, const float *row, const leading *l, uint32_t *odd)
{
    int64_t n = r->columns, found = 0;
    uint32_t *restrict bucket = r->bucket;
    int32_t shift = l->shift, low = l->low;
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = key_of(row[i]);
        int32_t above = (int32_t)(key >> shift) - low;
        above = (above < 0 ? 0 : above) + ZEROS;
        bucket[i] = key ? (uint32_t)above : (uint32_t)i % ZEROS;
    }
    for (int64_t at = 0; at < n; at += 8) {
        int64_t end = at + 8 < n ? at + 8 : n;
        if (end == at + 8 && !has_odd(l, row + at)) continue;
        for (int64_t i = at; i < end; i++) {
            odd[found] = (uint32_t)i;
            found += is_odd(l, key_of(row[i]));
        }
        if (found > n / FEWEST) return -1;
    }
    return found;
}

/* As `fill_buckets`, of places. */
static void fill_places(ranking *r, uint32_t *restrict places)
{
    int64_t n = r->columns, half = n / 2;
    const uint32_t *restrict bucket = r->bucket;
    const float *restrict by_rank = r->by_rank;
    uint32_t *restrict ends = r->ends;
    float *restrict stays = r->stays;
    for (int64_t i = 0, j = half; i < half; i++, j++) {
        uint32_t to = --ends[2 * bucket[i]], also = --ends[2 * bucket[j] + 1];
        places[to] = (uint32_t)i;
        stays[i] = by_rank[to];
        places[also] = (uint32_t)j;
        stays[j] = by_rank[also];
    }
    if (n % 2) {
        uint32_t to = --ends[2 * bucket[n - 1] + 1];
        places[to] = (uint32_t)(n - 1);
        stays[n - 1] = by_rank[to];
    }
}

/* Sort ranks [at, end), of one bucket: first what is not odd. How many moves that took, or -1 when it is given up. */
static int64_t sort_bucket(ranking *r, const float *row, const leading *l, uint32_t *places, int64_t at, int64_t end,
                           int64_t left)
{
    uint32_t *odd = r->ends + 2 * l->n_buckets;
    int64_t n_odd = 0, moves = 0, to = at;
    for (int64_t i = at; i < end; i++) {
        uint32_t place = places[i], key = key_of(row[place]);
        if (!is_odd(l, key)) {
            places[to++] = place;
            continue;
        }
        int64_t j = n_odd++;
        for (; j > 0 && key_of(row[odd[j - 1]]) > key && moves < left; j--, moves++) odd[j] = odd[j - 1];
        odd[j] = place;
        if (moves >= left) return -1;
    }
    for (int64_t i = 0; i < n_odd; i++) places[to + i] = odd[i];
    for (int64_t i = at; i < end; i++) r->stays[places[i]] = r->by_rank[i];
    return moves;
}

/* The chance of each entry of a row whose magnitudes have few bits; 0 when it is given up. */
static int find_few(ranking *r, const float *row)
{
    uint32_t *odd = (uint32_t *)r->sorted, *places = (uint32_t *)r->spare, *ends = r->ends;
    int64_t left = MOVES * r->columns;
    leading l;
    int64_t n_odd = find_leading(r, row, &l) ? find_odd(r, row, &l, odd) : -1;
    if (n_odd < 0) return 0;
    count_buckets(r, l.n_buckets);
    fill_places(r, places);
    for (int64_t i = 0; i < n_odd; i++) {
        uint32_t b = r->bucket[odd[i]], end = (int32_t)b + 1 < l.n_buckets ? ends[2 * b + 3] : (uint32_t)r->columns;
        if (ends[2 * b] == UINT32_MAX) continue; /* has been sorted */
        int64_t moves = sort_bucket(r, row, &l, places, ends[2 * b + 1], end, left);
        if (moves < 0) return 0;
        left -= moves;
        ends[2 * b] = UINT32_MAX;
    }
    return 1;
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
    size_t n = (size_t)columns + 2;
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

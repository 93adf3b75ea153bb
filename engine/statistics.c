/* What a child has more than a base, in counts and sums, in one pass over both.

   Does what its twin in engine/moments.py does, to the last bit. A delta is counted in its cell, that of its sign and its
   upper 19 bits, and added up as the smallest number of that cell when all is read; what it has beyond that number is
   added up apart. Deltas of bfloat16 numbers seldom have anything. */
#include "tiles.h"

#define BLOCK (1 << 18) /* entries over which sums are taken */
#define THRESHOLDS 7
#define OCTAVE_BINS 16

enum { INFINITE = 0x7f800000, MAGNITUDE = 0x7fffffff };
enum { BEYOND = 0xfff };         /* bits of a delta beyond its cell */
enum { HALF = 1 << 16 };         /* from the counter of a cell to that of its negative */
enum { FINEST = 8, NEXT = 2 * HALF }; /* cells that share 16 bits of their number, and from one of them to the next */
enum { CELLS = FINEST * NEXT };
enum { BASE_SQUARE, BASE_DOT, BASE_ABS, N_BASE };
enum { SUM, SQUARE, CUBE, FOURTH, ABS, N_MOMENTS };

typedef struct {
    int64_t n_nonfinite, n_changed;
    int64_t n_over[THRESHOLDS];     /* larger than a threshold, but in its cell */
    double base[N_BASE], beyond[N_MOMENTS];
    int32_t low, high;              /* deltas, ordered, of entries with anything beyond and of blocks of one sign */
    uint32_t base_most;             /* bits of the base's largest magnitude */
    uint32_t bits;                  /* that any delta has */
    uint32_t thresholds[THRESHOLDS];
} summary;

typedef struct {
    float base[SUB], delta[SUB];
    uint32_t any, every, base_most; /* bits of deltas; bits of the base's largest magnitude */
} block;

typedef struct {
    lanes base[N_BASE], beyond[N_MOMENTS];
} partial;

static inline __attribute__((always_inline)) float entry(const void *data, int dtype, int64_t at)
{
    return dtype == BF16 ? float_of((uint32_t)((const uint16_t *)data)[at] << 16) : ((const float *)data)[at];
}

/* Read n entries. */
static inline __attribute__((always_inline)) void read_some(const void *child, int dtype, const void *base,
                                                            int base_dtype, int n, block *e)
{
    uint32_t most = 0, any = 0, every = UINT32_MAX;
    for (int i = 0; i < n; i++) {
        float w = entry(base, base_dtype, i), d = entry(child, dtype, i) - w;
        uint32_t bits = bits_of(d), size = bits_of(w) & MAGNITUDE;
        e->base[i] = w;
        e->delta[i] = d;
        any |= bits;
        every &= bits;
        most = size > most ? size : most;
    }
    e->any = any;
    e->every = every;
    e->base_most = most;
}

/* Leave out what is not finite: it becomes 0. */
static void mend(int n, block *e, summary *s)
{
    e->any = 0;
    e->every = UINT32_MAX;
    e->base_most = 0;
    for (int i = 0; i < n; i++) {
        if ((bits_of(e->delta[i]) & MAGNITUDE) >= INFINITE) {
            e->delta[i] = e->base[i] = 0.0f;
            s->n_nonfinite++;
        } else {
            uint32_t bits = bits_of(e->delta[i]), size = bits_of(e->base[i]) & MAGNITUDE;
            e->any |= bits;
            e->every &= bits;
            e->base_most = size > e->base_most ? size : e->base_most;
        }
    }
}

static inline __attribute__((always_inline)) d4 magnitude(d4 x)
{
    typedef int64_t i4 __attribute__((vector_size(32)));
    return (d4)((i4)x & INT64_MAX);
}

/* Sums of n entries, a multiple of LANES; two chains of additions at a time, for one would wait for itself. */
static void add_base(const block *e, int n, lanes sums[N_BASE])
{
    for (int j = 0; j < LANES / 4; j += 2) {
        d4 square = sums[BASE_SQUARE].part[j], dot = sums[BASE_DOT].part[j], size = sums[BASE_ABS].part[j];
        d4 square2 = sums[BASE_SQUARE].part[j + 1], dot2 = sums[BASE_DOT].part[j + 1], size2 = sums[BASE_ABS].part[j + 1];
        for (int i = 4 * j; i < n; i += LANES) {
            d4 w = wide(e->base + i), w2 = wide(e->base + i + 4);
            square = added(w, w, square);
            square2 = added(w2, w2, square2);
            dot = added(w, wide(e->delta + i), dot);
            dot2 = added(w2, wide(e->delta + i + 4), dot2);
            size += magnitude(w);
            size2 += magnitude(w2);
        }
        sums[BASE_SQUARE].part[j] = square, sums[BASE_DOT].part[j] = dot, sums[BASE_ABS].part[j] = size;
        sums[BASE_SQUARE].part[j + 1] = square2, sums[BASE_DOT].part[j + 1] = dot2, sums[BASE_ABS].part[j + 1] = size2;
    }
}

static int is_finite(const lanes *sums)
{
    double each[LANES], zero = 0;
    memcpy(each, sums, sizeof each);
    for (int i = 0; i < LANES; i++) zero += each[i] - each[i];
    return zero == 0;
}

/* A float as an integer of the same order. */
static inline int32_t ordered(uint32_t bits)
{
    return (int32_t)(bits ^ (uint32_t)((int32_t)bits >> 31) >> 1);
}

static void add_beyond(const float *delta, lanes sums[N_MOMENTS])
{
    for (int j = 0; j < LANES / 4; j++) {
        uint32_t bits[4];
        float least[4];
        memcpy(bits, delta + 4 * j, sizeof bits);
        for (int k = 0; k < 4; k++) bits[k] &= ~(uint32_t)BEYOND;
        memcpy(least, bits, sizeof least);
        d4 x = wide(delta + 4 * j), y = wide(least), xx = x * x, yy = y * y;
        sums[SUM].part[j] += x - y;
        sums[SQUARE].part[j] += xx - yy;
        sums[CUBE].part[j] += xx * x - yy * y;
        sums[FOURTH].part[j] += xx * xx - yy * yy;
        sums[ABS].part[j] += magnitude(x) - magnitude(y);
    }
}

/* What deltas have beyond the smallest numbers of their cells, their extremes, and how many lie between a threshold and
   the end of its cell: of those groups of LANES entries that have a bit in `groups`. */
static void look_closely(const block *e, uint64_t groups, lanes sums[N_MOMENTS], summary *s)
{
    for (; groups; groups &= groups - 1) {
        const float *delta = e->delta + LANES * __builtin_ctzll(groups);
        int32_t low = s->low, high = s->high;
        uint32_t most = 0;
        add_beyond(delta, sums);
        for (int k = 0; k < LANES; k++) {
            uint32_t bits = bits_of(delta[k]), size = bits & MAGNITUDE;
            int32_t key = ordered(bits), lower = size ? key : INT32_MAX, upper = size ? key : INT32_MIN;
            low = lower < low ? lower : low;
            high = upper > high ? upper : high;
            most = size > most ? size : most;
        }
        s->low = low;
        s->high = high;
        for (int t = 0; t < THRESHOLDS; t++) {
            uint32_t threshold = s->thresholds[t], width = BEYOND - (threshold & BEYOND);
            int32_t over = 0;
            if (most <= threshold) continue;
            for (int k = 0; k < LANES; k++) over += (bits_of(delta[k]) & MAGNITUDE) - threshold - 1 < width;
            s->n_over[t] += over;
        }
    }
}

#ifdef __AVX2__
static uint8_t kept[256][8]; /* which of eight numbers a byte's bits choose, in order */

static __attribute__((constructor)) void choose(void)
{
    for (int byte = 0; byte < 256; byte++)
        for (int i = 0, n = 0; i < 8; i++)
            if (byte >> i & 1) kept[byte][n++] = (uint8_t)i;
}
#endif

/* The cells of what is not 0 among n entries, a multiple of LANES, and how many these are; the groups of LANES entries
   that have anything beyond their cells. `cells` has room for 8 more. */
static int find_cells(const float *delta, int n, uint32_t *cells, uint64_t *groups)
{
    int found = 0;
    uint64_t beyond = 0;
#ifdef __AVX2__
    const __m256i fine = _mm256_set1_epi32(CELLS - NEXT), rest = _mm256_set1_epi32(BEYOND);
    for (int i = 0; i < n; i += 8) {
        __m256 x = _mm256_loadu_ps(delta + i);
        __m256i bits = _mm256_castps_si256(x), lower = _mm256_and_si256(_mm256_slli_epi32(bits, 5), fine);
        __m256i cell = _mm256_or_si256(_mm256_srli_epi32(bits, 15), lower);
        int which = _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)kept[which]));
        _mm256_storeu_si256((__m256i *)(cells + found), _mm256_permutevar8x32_epi32(cell, order));
        found += __builtin_popcount((unsigned)which);
        beyond |= (uint64_t)!_mm256_testz_si256(bits, rest) << (i / LANES);
    }
#else
    for (int i = 0; i < n; i++) {
        uint32_t bits = bits_of(delta[i]);
        cells[found] = bits >> 15 | (bits << 5 & (CELLS - NEXT));
        found += delta[i] != 0;
        beyond |= (uint64_t)((bits & BEYOND) != 0) << (i / LANES);
    }
#endif
    *groups = beyond;
    return found;
}

/* Count the cells of n entries; the groups that have anything beyond them. */
static uint64_t count_cells(const float *delta, int n, summary *s, uint32_t *counts)
{
    uint32_t cells[SUB + 8];
    uint64_t groups;
    int found = find_cells(delta, n, cells, &groups), i = 0;
    for (; i + 8 <= found; i += 8)
        for (int k = 0; k < 8; k++) counts[cells[i + k]]++;
    for (; i < found; i++) counts[cells[i]]++;
    s->n_changed += found;
    return groups;
}

/* Sums, extremes and counts of n entries at hand. */
static void add_some(block *e, int n, partial *sums, summary *s, uint32_t *counts)
{
    int whole = n;
    for (; whole % LANES; whole++) {
        e->base[whole] = e->delta[whole] = 0.0f;
    }
    lanes before[N_BASE];
    memcpy(before, sums->base, sizeof before);
    add_base(e, whole, sums->base);
    if (!is_finite(&sums->base[BASE_DOT])) {
        mend(n, e, s);
        memcpy(sums->base, before, sizeof before);
        add_base(e, whole, sums->base);
    }
    uint64_t groups = count_cells(e->delta, whole, s, counts);
    int one_sign = !((e->any ^ e->every) >> 31);
    if (one_sign && e->any << 1) groups = UINT64_MAX >> (SUB - whole) / LANES;
    look_closely(e, groups, sums->beyond, s);
    s->base_most = e->base_most > s->base_most ? e->base_most : s->base_most;
    s->bits |= e->any;
}

static inline __attribute__((always_inline)) void read_entries(const tiles *t, int64_t at, int m, block *e)
{
    int dtype = t->from[0]->dtype, base_dtype = t->from[1]->dtype;
    const void *child = entries(t, 0, at), *base = entries(t, 1, at);
    if (dtype == BF16 && base_dtype == BF16)
        read_some(child, BF16, base, BF16, m, e);
    else
        read_some(child, dtype, base, base_dtype, m, e);
}

/* Add n entries, whole blocks but for the last, to a summary and to the counts of their cells; -3 when a file cannot be
   read. */
int32_t summarise(const source *child, const source *base, int64_t n, summary *s, uint32_t *counts)
{
    block e;
    partial sums = {0};
    tiles t = {.from = {child, base}, .n_sources = 2};
    int64_t at = 0;
    if (!open_tiles(&t, n)) return UNREADABLE;
    while (at < n) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (!reach(&t, at, m, n)) break;
        read_entries(&t, at, m, &e);
        add_some(&e, m, &sums, s, counts);
        at += m;
        if (at % BLOCK && at != n) continue;
        for (int k = 0; k < N_BASE; k++) s->base[k] += folded(&sums.base[k]);
        for (int k = 0; k < N_MOMENTS; k++) s->beyond[k] += folded(&sums.beyond[k]);
        memset(&sums, 0, sizeof sums);
    }
    free(t.scratch);
    return at < n ? UNREADABLE : 0;
}

/* What the counts of cells say; every array begins with zeros. */
typedef struct {
    int64_t n_positive, n_negative;
    int64_t n_within[THRESHOLDS]; /* in cells up to that of a threshold */
    float largest, smallest;      /* numbers of the cells farthest from 0 */
    int64_t *counts;              /* of bins */
    double *moments[N_MOMENTS];   /* of bins; each delta counts as the smallest number of its cell */
    const uint8_t *bin_of_step;   /* within an octave */
} pool;

/* The lowest octave that is not empty. */
static uint32_t lowest(const summary *s, const uint32_t *counts)
{
    int64_t n = s->n_changed;
    uint32_t octave = ((s->bits & MAGNITUDE) >> 23) + 1;
    while (n && octave) {
        octave--;
        for (uint32_t row = 0; row < 2 * FINEST; row++) {
            const uint32_t *some = counts + row * HALF + octave * 256;
            uint32_t found = 0;
            for (int i = 0; i < 256; i++) found += some[i];
            n -= found;
        }
    }
    return octave;
}

/* Pool the counts of cells, and leave zeros in their place. */
void pool_cells(const summary *s, uint32_t *counts, pool *p)
{
    uint32_t end = ((s->bits & MAGNITUDE) >> 15) + 1;
    for (uint32_t upper = lowest(s, counts) << 8; upper < end; upper++)
        for (uint32_t step = 0; step < FINEST; step++) {
            uint32_t *here = counts + upper + step * NEXT;
            int64_t positive = here[0], negative = here[HALF], both = positive + negative;
            if (!both) continue;
            here[0] = here[HALF] = 0;
            uint32_t octave = upper >> 8, bits = upper << 15 | step << 12;
            uint32_t bin = octave ? OCTAVE_BINS * (octave - 1) + p->bin_of_step[bits >> 12 & 2047] + 1u : 0;
            double x = float_of(bits), xx = x * x, more = (double)(positive - negative);
            p->n_positive += positive;
            p->n_negative += negative;
            if (positive) p->largest = float_of(bits);
            if (negative) p->smallest = -float_of(bits);
            for (int t = 0; t < THRESHOLDS; t++) p->n_within[t] += bits <= s->thresholds[t] ? both : 0;
            p->counts[bin] += both;
            p->moments[SUM][bin] += more * x;
            p->moments[SQUARE][bin] += (double)both * xx;
            p->moments[CUBE][bin] += more * (xx * x);
            p->moments[FOURTH][bin] += (double)both * (xx * xx);
            p->moments[ABS][bin] += (double)both * x;
        }
}

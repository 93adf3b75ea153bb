/* Counts of magnitudes by their bits. */
#include "tiles.h"

/* How often each upper half of the magnitudes' bits occurs, or each lower half of those with this upper one. */
int32_t count_magnitudes(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n,
                         int32_t upper, int64_t *counts)
{
    float x[SUB], from[SUB] = {0};
    const uint32_t *bits = (const uint32_t *)x;
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(behind(base, base_dtype, at), base_dtype, m, from)) return 1;
        if (load_less(behind(data, dtype, at), dtype, m, base ? from : NULL, x)) return 0;
        if (upper < 0)
            for (int i = 0; i < m; i++) counts[(bits[i] & 0x7fffffffu) >> 16]++;
        else
            for (int i = 0; i < m; i++)
                if ((bits[i] & 0x7fffffffu) >> 16 == (uint32_t)upper) counts[bits[i] & 0xffffu]++;
    }
    return -1;
}

/* Counts of a source's magnitudes below `low`, and of each of the `width` keys from it on. Keys are the bits of the
   magnitude, at most 2^31 - 1 with `width`; others are not counted. */
typedef struct {
    source from;
    int32_t low, width, likely; /* likely: a key of which there may be many; the most frequent that was met takes its place */
    int32_t n_met;
    int64_t below;
    int64_t *counts; /* of each key, less low; 0 before */
    int32_t *met;    /* those that occur, less low, in the order of their first ones */
} question;

static inline void meet(question *q, int32_t place, int64_t how_many)
{
    if (!q->counts[place]) q->met[q->n_met++] = place;
    q->counts[place] += how_many;
}

static int count_some(question *q, const void *data, int n, const float *base)
{
    float x[SUB];
    int32_t low = q->low, high = low + q->width, likely = q->likely, many = 0, last = -1;
    i8 below = {0}, same = {0};
    int bad = load(data, q->from.dtype, n, x);
    for (int i = n; i % 8; i++) x[i] = NAN; /* a key above all that are counted, infinity's too */
    for (int i = 0; i < n; i += 8) {
        f8 change = eight(x + i) - eight(base + i);
        i8 key = (i8)change & 0x7fffffff, under = key < low, alike = key == likely;
        i8 near = ~under & (key < high) & ~alike;
        below += under;
        same += alike;
        if (!any(near)) continue;
        for (int j = 0; j < 8; j++)
            if (near[j]) meet(q, last = key[j] - low, 1);
    }
    for (int j = 0; j < 8; j++) {
        q->below -= below[j];
        many -= same[j];
    }
    int inside = likely >= low && likely < high;
    if (many && inside) meet(q, likely - low, many);
    if (last >= 0 && (!inside || q->counts[last] > q->counts[likely - low])) q->likely = low + last;
    return bad;
}

/* Answer k questions; whose entries are not finite (the base is k), else -1; UNREADABLE. */
int32_t count_near(question *asked, int32_t k, const source *base, int64_t n)
{
    float from[SUB] = {0};
    tiles read = {.n_sources = k};
    int32_t whose = -1;
    if (k >= MOST) return TOO_MANY;
    for (int i = 0; i < k; i++) read.from[i] = &asked[i].from;
    if (base) read.from[read.n_sources++] = base;
    if (!open_tiles(&read, n)) return UNREADABLE;
    for (int64_t at = 0; at < n && whose == -1; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (!reach(&read, at, m, n))
            whose = UNREADABLE;
        else if (base && load(entries(&read, k, at), base->dtype, m, from))
            whose = k;
        for (int i = 0; i < k && whose == -1; i++)
            if (count_some(&asked[i], entries(&read, i, at), m, from)) whose = i;
    }
    free(read.scratch);
    return whose;
}

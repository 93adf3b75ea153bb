/* Dropping by rank, of rows of one task vector, or of several that are combined.

   Those that are combined are read, ranked, dropped and combined row by row, so that they stay in the cache. */
#include "merges.h"
#include "ranks.h"
#include "tiles.h"

/* Drop entries of (rows, columns) by their ranks within rows; see `dropping`. 0: there is no memory. */
int32_t drop_by_rank(const float *delta, int64_t rows, int64_t columns, const uint64_t *key, int64_t start, float least,
                     float more, int32_t by_chance, float *out)
{
    ranking r;
    dropping d = {.least = least, .more = more, .by_chance = by_chance};
    if (!open_ranking(&r, columns)) return 0;
    begin(&d.words, key, start);
    memcpy(out, delta, sizeof(float) * (size_t)(rows * columns));
    for (int64_t first = 0; first < rows * columns; first += columns) drop_row(&r, &d, out + first);
    free(r.memory);
    return 1;
}

/* Rows on their way from where they are stored to what combines them: of each term less the base, and of the base. */
typedef struct {
    tiles read;
    ranking ranks;
    dropping drops[MANY];
    term kept[MANY];
    float *rows[MANY + 1], *memory; /* entries from `first` to `end` */
    int64_t first, end;
} flow;

static int open_flow(flow *w, const merge *m, const term *terms)
{
    int k = m->n_terms;
    size_t room = (size_t)m->columns + SUB;
    w->read.n_sources = k + m->has_base;
    for (int t = 0; t < k; t++) w->read.from[t] = &terms[t].from;
    w->read.from[k] = &m->base;
    w->memory = malloc(room * (size_t)(k + 1) * sizeof(float));
    if (!w->memory || !open_ranking(&w->ranks, m->columns) || !open_tiles(&w->read, m->n)) return 0;
    for (int t = 0; t <= k; t++) w->rows[t] = w->memory + room * (size_t)t;
    for (int t = 0; t < k; t++) {
        dropping *d = &w->drops[t];
        *d = (dropping){.least = terms[t].threshold, .more = terms[t].beyond, .by_chance = terms[t].stays_below};
        begin(&d->words, terms[t].key, terms[t].start);
        w->kept[t] = (term){.from = {.dtype = F32}, .pick = ALL, .scale = terms[t].scale};
    }
    return 1;
}

/* Read the next row of every term, and drop entries of it; 0 where one cannot be read or is not finite. */
static int next_row(flow *w, const merge *m, const term *terms)
{
    int k = m->n_terms;
    int64_t behind_first = w->end - w->first;
    for (int64_t at = 0; at < m->columns;) {
        int64_t place = w->end + at, here = w->read.end - place, left = m->columns - at;
        int n = (int)(left < SUB ? left : SUB), bad = 0;
        float *base = w->rows[k] + behind_first + at;
        if (here > 0 && here < n) n = (int)here;
        if (!reach(&w->read, place, n, m->n)) return 0;
        if (m->has_base) bad = load(entries(&w->read, k, place), m->base.dtype, n, base);
        for (int t = 0; t < k; t++)
            bad |= load_less(entries(&w->read, t, place), terms[t].from.dtype, n, m->has_base ? base : NULL,
                             w->rows[t] + behind_first + at);
        if (bad) return 0;
        at += n;
    }
    for (int t = 0; t < k; t++) drop_row(&w->ranks, &w->drops[t], w->rows[t] + behind_first);
    w->end += m->columns;
    return 1;
}

/* Where entry 0 would be of what begins at `first`. */
static const void *origin(const float *rows, int64_t first)
{
    return (const void *)((uintptr_t)rows - (uintptr_t)first * sizeof(float));
}

/* Combine what has been read, but for less than SUB entries, which stay; 0 where that is not finite. */
static int pass_on(flow *w, const merge *m, float *out, const closing *c, found *f)
{
    int k = m->n_terms;
    int64_t to = w->end == m->n ? w->end : w->end / SUB * SUB;
    merge rest = *m;
    closing end = c ? *c : (closing){0};
    if (to == w->first) return 1;
    rest.has_base = 0;
    for (int t = 0; t < k; t++) w->kept[t].from.data = origin(w->rows[t], w->first);
    end.reference = (source){.data = origin(w->rows[k], w->first), .dtype = F32};
    if (combine_span(&rest, w->kept, w->first, to, out, c ? &end : NULL, f) != -1) return 0;
    for (int t = 0; t <= k; t++)
        memmove(w->rows[t], w->rows[t] + (to - w->first), sizeof(float) * (size_t)(w->end - to));
    w->first = to;
    return 1;
}

/* Drop entries of the terms by their ranks within rows of m->columns, and combine what stays, as `combine` does. Of terms
   `threshold` is the chance of the smallest entries, `beyond` how much better the largest ones' are, and `stays_below`
   tells to divide by the chance. A `c` has the base for its reference. 0 where anything is not finite or cannot be read,
   or there is no memory: nothing that was written counts. */
int32_t combine_ranked(const merge *m, const term *terms, float *out, const closing *c)
{
    flow *w = m->n_terms <= MANY && (m->has_base || !c) ? calloc(1, sizeof *w) : NULL;
    found f = {0};
    int done = w && open_flow(w, m, terms);
    while (done && w->end < m->n) done = next_row(w, m, terms) && pass_on(w, m, out, c, &f);
    if (!w) return 0;
    free(w->read.scratch);
    free(w->ranks.memory);
    free(w->memory);
    free(w);
    return done;
}

/* Tiles: the same entries of several sources at once, read from files into memory that the second-level cache holds. */
#pragma once
#include "kernels.h"

#define TILE_ENTRIES 131072 /* of all sources together */

typedef struct {
    const source *from[MOST + 2];
    const void *here[MOST + 2]; /* where entry `first` of each is */
    char *scratch;
    int n_sources;
    int64_t first, end, most; /* entries that are here; how many may be */
} tiles;

/* Prepare to read sources of n entries; 0 when there is no memory. */
static inline int open_tiles(tiles *t, int64_t n)
{
    int64_t most = TILE_ENTRIES / (t->n_sources + 1) / SUB * SUB;
    int in_memory = 1;
    for (int i = 0; i < t->n_sources; i++) in_memory &= t->from[i]->data != NULL;
    t->first = t->end = 0;
    t->most = in_memory ? n : most < n ? most : n;
    t->scratch = in_memory ? NULL : malloc((size_t)(t->n_sources * t->most) * sizeof(float));
    return in_memory || t->scratch;
}

static inline int read_all(const source *s, int64_t at, int64_t n, char *to)
{
    int64_t size = s->dtype == BF16 ? 2 : 4, left = n * size, from = s->offset + at * size;
    while (left) {
        ssize_t got = pread(s->file, to, (size_t)left, (off_t)from);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return 0;
        to += got;
        from += got;
        left -= got;
    }
    return 1;
}

/* Bring entries [at, at + m) of all sources here, of n; 0 when they cannot be read. Entries are asked for in order. */
static inline int reach(tiles *t, int64_t at, int m, int64_t n)
{
    if (at + m <= t->end) return 1;
    t->first = at;
    t->end = n - at < t->most ? n : at + t->most;
    for (int i = 0; i < t->n_sources; i++) {
        const source *s = t->from[i];
        char *to = t->scratch + (size_t)(i * t->most) * sizeof(float);
        t->here[i] = s->data ? behind(s->data, s->dtype, at) : to;
        if (!s->data && !read_all(s, at, t->end - at, to)) return 0;
    }
    return 1;
}

static inline const void *entries(const tiles *t, int source, int64_t at)
{
    return behind(t->here[source], t->from[source]->dtype, at - t->first);
}

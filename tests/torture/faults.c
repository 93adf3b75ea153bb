/* Faults of the operating system, made on purpose: preloaded before the C library, and told what to do after a fork.
 *
 * A disk that fills up after so many bytes, a file that cannot be read from its n-th read on, a pause before the n-th
 * read in which somebody else changes what is there, an end in the middle of the n-th write, a clock that is wrong.
 * Only files whose path begins with a prefix are touched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char written[4096], seen[4096];
static _Atomic long room = -1, n_reads = 0, at = -1;
static _Atomic long tears = 0;
static long later = 0;
static int fails_with = 0, tell = -1, wait_for = -1;

void faults_disk(const char *prefix, long bytes) { snprintf(written, sizeof written, "%s", prefix); room = bytes; }

void faults_tear(const char *prefix, long nth) { snprintf(written, sizeof written, "%s", prefix); tears = nth; }

void faults_read(const char *prefix, long nth, int error, int told, int waited)
{
    snprintf(seen, sizeof seen, "%s", prefix);
    n_reads = 0;
    at = nth;
    fails_with = error;
    tell = told;
    wait_for = waited;
}

void faults_clock(long seconds) { later = seconds; }

long faults_counted(void) { return n_reads; }

static int is_below(int file, const char *prefix)
{
    char link[64], path[4096];
    if (!prefix[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    return n >= (ssize_t)strlen(prefix) && !strncmp(path, prefix, strlen(prefix));
}

/* -1 and errno when this read must fail. */
static int reads(int file)
{
    int before = errno;
    if (at < 0 || !is_below(file, seen)) return errno = before, 0;
    long now = ++n_reads;
    if (fails_with && now >= at) return errno = fails_with, -1;
    if (tell >= 0 && now == at) {
        ssize_t (*put)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        ssize_t (*get)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
        char byte = 'r';
        if (put(tell, &byte, 1) == 1) while (get(wait_for, &byte, 1) < 0 && errno == EINTR);
    }
    return errno = before, 0;
}

/* How many of n bytes from an offset on may be written; -1 and errno when none. */
static ssize_t writes(int file, size_t n, off_t offset)
{
    struct stat status;
    int before = errno;
    if (room < 0 || !n || !is_below(file, written) || fstat(file, &status)) return errno = before, (ssize_t)n;
    long grows = offset + (long)n - status.st_size;
    errno = before;
    if (grows <= 0) return (ssize_t)n;
    long had = room, takes;
    do takes = grows < had ? grows : had; while (!atomic_compare_exchange_weak(&room, &had, had - takes));
    long fits = (long)n - grows + takes;
    if (fits <= 0) return errno = ENOSPC, -1;
    return fits;
}

/* Write half of what takes pages, and be killed, when it is the turn of this write. */
static void may_tear(int file, const void *from, size_t n, off_t offset)
{
    int before = errno;
    if (tears > 0 && n > 4096 && is_below(file, written) && --tears == 0) {
        ssize_t (*put)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");
        if (put(file, from, n / 2, offset) >= 0) raise(SIGKILL);
    }
    errno = before;
}

static off_t place(int file) { off_t here = lseek(file, 0, SEEK_CUR); return here < 0 ? 0 : here; }

#define REAL(name, type, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t read(int f, void *to, size_t n) { REAL(read, ssize_t, int, void *, size_t); return reads(f) ? -1 : real(f, to, n); }
ssize_t pread(int f, void *to, size_t n, off_t o) { REAL(pread, ssize_t, int, void *, size_t, off_t); return reads(f) ? -1 : real(f, to, n, o); }
ssize_t pread64(int f, void *to, size_t n, off_t o) { REAL(pread64, ssize_t, int, void *, size_t, off_t); return reads(f) ? -1 : real(f, to, n, o); }
ssize_t preadv(int f, const struct iovec *v, int k, off_t o) { REAL(preadv, ssize_t, int, const struct iovec *, int, off_t); return reads(f) ? -1 : real(f, v, k, o); }
ssize_t preadv64(int f, const struct iovec *v, int k, off_t o) { REAL(preadv64, ssize_t, int, const struct iovec *, int, off_t); return reads(f) ? -1 : real(f, v, k, o); }
ssize_t preadv2(int f, const struct iovec *v, int k, off_t o, int how) { REAL(preadv2, ssize_t, int, const struct iovec *, int, off_t, int); return reads(f) ? -1 : real(f, v, k, o, how); }
ssize_t preadv64v2(int f, const struct iovec *v, int k, off_t o, int how) { REAL(preadv64v2, ssize_t, int, const struct iovec *, int, off_t, int); return reads(f) ? -1 : real(f, v, k, o, how); }

ssize_t write(int f, const void *from, size_t n)
{
    REAL(write, ssize_t, int, const void *, size_t);
    ssize_t fits = room < 0 ? (ssize_t)n : writes(f, n, place(f));
    return fits < 0 ? -1 : real(f, from, (size_t)fits);
}

ssize_t pwrite(int f, const void *from, size_t n, off_t o)
{
    REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
    may_tear(f, from, n, o);
    ssize_t fits = writes(f, n, o);
    return fits < 0 ? -1 : real(f, from, (size_t)fits, o);
}

ssize_t pwrite64(int f, const void *from, size_t n, off_t o)
{
    REAL(pwrite64, ssize_t, int, const void *, size_t, off_t);
    may_tear(f, from, n, o);
    ssize_t fits = writes(f, n, o);
    return fits < 0 ? -1 : real(f, from, (size_t)fits, o);
}

int posix_fallocate(int f, off_t o, off_t n)
{
    REAL(posix_fallocate, int, int, off_t, off_t);
    int before = errno;
    ssize_t fits = writes(f, (size_t)n, o);
    errno = before; /* the error is the answer */
    return fits < n ? ENOSPC : real(f, o, n);
}

int posix_fallocate64(int f, off_t o, off_t n) { return posix_fallocate(f, o, n); }

static void shrinks(int f, off_t n)
{
    struct stat status;
    if (room >= 0 && is_below(f, written) && !fstat(f, &status) && status.st_size > n) room += status.st_size - n;
}

int ftruncate(int f, off_t n) { REAL(ftruncate, int, int, off_t); shrinks(f, n); return real(f, n); }
int ftruncate64(int f, off_t n) { REAL(ftruncate64, int, int, off_t); shrinks(f, n); return real(f, n); }

int clock_gettime(clockid_t which, struct timespec *now)
{
    REAL(clock_gettime, int, clockid_t, struct timespec *);
    int answer = real(which, now);
    if (!answer && which == CLOCK_REALTIME) now->tv_sec += later;
    return answer;
}

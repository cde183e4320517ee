/* A CUDA driver whose device is host memory, for tests of the calls that we make.
 * Copies and graphs really happen: a captured copy runs when the graph is launched. */
#include <stdlib.h>
#include <string.h>
typedef void *P;
enum { OK = 0, INVALID = 1, NO_DEVICE = 100 };
struct op { void *to; const void *from; size_t size; };
struct graph { struct op ops[64]; int count; };
static struct graph *recording;
static long live; /* allocations not yet freed */
static _Thread_local P current;
static int context_object;

long stub_live(void) { return live; }
static int devices(void) { const char *n = getenv("STUB_DEVICES"); return n ? atoi(n) : 1; }
int cuInit(unsigned flags) { return devices() < 0 ? NO_DEVICE : OK; }
int cuDeviceGetCount(int *n) { *n = devices(); return OK; }
int cuDeviceGet(int *d, int i) { *d = 7; return i; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Stub GPU", n); return d == 7 ? OK : INVALID; }
int cuDriverGetVersion(int *v) { *v = 12060; return OK; }
int cuDeviceGetAttribute(int *v, int a, int d) {
  *v = a == 75 ? 9 : a == 76 ? 0 : a == 16 ? 132 : -1; return d == 7 ? OK : INVALID; }
int cuGetErrorName(int e, const char **s) {
  *s = e == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : e == INVALID ? "CUDA_ERROR_INVALID_VALUE" : 0;
  return OK; }
int cuDevicePrimaryCtxRetain(P *c, int d) { *c = &context_object; live++; return d == 7 ? OK : INVALID; }
int cuDevicePrimaryCtxRelease_v2(int d) { live--; return d == 7 ? OK : INVALID; }
int cuCtxSetCurrent(P c) { current = c; return OK; }
#define NEEDS_CONTEXT if (!current) return INVALID
int cuStreamCreate(P *s, unsigned f) { NEEDS_CONTEXT; *s = malloc(1); live++; return f == 1 ? OK : INVALID; }
int cuStreamDestroy_v2(P s) { free(s); live--; return OK; }
int cuStreamSynchronize(P s) { NEEDS_CONTEXT; return recording ? INVALID : OK; }
int cuMemAlloc_v2(P *p, size_t n) { NEEDS_CONTEXT; *p = malloc(n); live++; return OK; }
int cuMemFree_v2(P p) { free(p); live--; return OK; }
int cuMemHostAlloc(P *p, size_t n, unsigned f) { NEEDS_CONTEXT; *p = malloc(n); live++; return OK; }
int cuMemFreeHost(P p) { free(p); live--; return OK; }
static int copy(void *to, const void *from, size_t n) {
  NEEDS_CONTEXT;
  if (!recording) { memcpy(to, from, n); return OK; }
  recording->ops[recording->count++] = (struct op){to, from, n};
  return OK; }
int cuMemcpyHtoDAsync_v2(P to, const void *from, size_t n, P s) { return s ? copy(to, from, n) : INVALID; }
int cuMemcpyDtoHAsync_v2(void *to, P from, size_t n, P s) { return s ? copy(to, from, n) : INVALID; }
/* what an engine would enqueue: copies device memory, in order with the rest */
int stub_kernel(void *to, const void *from, size_t n) { return copy(to, from, n); }
int cuStreamBeginCapture_v2(P s, int mode) {
  recording = calloc(1, sizeof *recording); live++; return mode == 1 ? OK : INVALID; }
int cuStreamEndCapture(P s, P *g) { *g = recording; recording = 0; return *g ? OK : INVALID; }
int cuGraphInstantiateWithFlags(P *e, P g, unsigned long long f) { *e = g; return g && !f ? OK : INVALID; }
int cuGraphLaunch(P e, P s) {
  struct graph *g = e;
  for (int i = 0; i < g->count; i++) memcpy(g->ops[i].to, g->ops[i].from, g->ops[i].size);
  return OK; }
int cuGraphExecDestroy(P e) { return OK; }
int cuGraphDestroy(P g) { free(g); live--; return OK; }

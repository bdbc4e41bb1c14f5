// Two files with a function of one name that only each of them sees. `gcc -DOTHER` makes the second one.
#define NOINLINE __attribute__((noinline, noclone))
extern volatile int sink;
int other(int *at);

#ifdef OTHER
NOINLINE static int handle(int *at) { sink += 2; sink += *at; return sink; }
int other(int *at) { int got = handle(at); return got + sink; }
#else
#include <stdlib.h>
volatile int sink;
int *volatile nowhere;
NOINLINE static int handle(int *at) { sink += 1; sink -= *at; return sink; }
NOINLINE static int alone(int *at) { sink += 3; sink ^= *at; return sink; }

int main(int count, char **words) {
    int way = count > 1 ? atoi(words[1]) : 0;
    int got = way == 1 ? handle(nowhere) : way == 2 ? other(nowhere) : alone(nowhere);
    return got + sink;
}
#endif

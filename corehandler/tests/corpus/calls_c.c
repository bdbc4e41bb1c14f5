/* What Go's run time does to call C: another stack, from which nothing leads back but what is kept on it. */
#include <stdlib.h>

__attribute__((section(".gopclntab"), used)) static const char table[] = "as in every Go program";

struct goroutine {
    char *low, *high;
};

static char stack[1 << 16] __attribute__((aligned(16)));

void call(void (*)(void), struct goroutine *, char *) __asm__("runtime.asmcgocall.abi0");
__asm__(
    ".text\n"
    ".globl runtime.asmcgocall.abi0\n"
    ".type runtime.asmcgocall.abi0, @function\n"
    "runtime.asmcgocall.abi0:\n"
    ".cfi_startproc\n"
    "movq %rsp, %rcx\n"
    "movq %rdx, %rsp\n"
    "subq $64, %rsp\n"
    "movq %rsi, 48(%rsp)\n"
    "movq 8(%rsi), %rsi\n"
    "subq %rcx, %rsi\n"
    "movq %rsi, 40(%rsp)\n"
    "call *%rdi\n"
    "ud2\n"
    ".cfi_endproc\n"
    ".size runtime.asmcgocall.abi0, . - runtime.asmcgocall.abi0\n");

__attribute__((noinline)) void in_c(void) { *(volatile int *)8 = 1; }

__attribute__((noinline)) void _cgo_0123456789ab_Cfunc_in_c(void) {
    in_c();
    *(volatile char *)stack = 1;
}

__attribute__((noinline)) void one(struct goroutine *goroutine) {
    call(_cgo_0123456789ab_Cfunc_in_c, goroutine, stack + sizeof stack);
    abort();
}

__attribute__((noinline)) void other(struct goroutine *goroutine) {
    call(_cgo_0123456789ab_Cfunc_in_c, goroutine, stack + sizeof stack);
    exit(1);
}

int main(int count, char **arguments) {
    char *here = __builtin_frame_address(0);
    struct goroutine goroutine = {here - (1 << 14), here + (1 << 10)};
    (void)count;
    atoi(arguments[1]) == 1 ? one(&goroutine) : other(&goroutine);
    return 0;
}

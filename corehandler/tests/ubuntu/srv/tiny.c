// The program of which apport's report, beside this, is: small enough to be kept, and without a library whose version would matter.
//
// gcc -O1 -nostdlib -static -Wl,--build-id -Wl,-z,noseparate-code -Wl,-z,max-page-size=4096 -o srv/tiny srv/tiny.c
// env -i chroot . /srv/tiny     gives `core`; its pages of the kernel's own library were zeroed, and apport's problem_report.ProblemReport wrote it
//                               into var/crash/_srv_tiny.0.crash
__asm__(".globl _start\n.type _start, @function\n_start: .cfi_startproc\n.cfi_undefined rip\ncall main\nhlt\n.cfi_endproc\n"
        ".size _start, .-_start");
__attribute__((noinline)) static int x_read(volatile int *from) { return *from + 1; }
__attribute__((noinline)) static int x_report(volatile int *from) { return x_read(from) + 1; }
int main(void) { return x_report((volatile int *)16); }

/*
 * One system call as the kernel takes it. Nothing of the C library is between,
 * for the program may have broken it.
 */
#include <sys/syscall.h>

#include "agent.h"

#define X32_BIT 0x40000000
/* Numbers of arch/x86/entry/syscalls/syscall_32.tbl. */
#define IA32_FORK 2
#define IA32_CLONE 120
#define IA32_VFORK 190
#define IA32_CLONE3 435

/*
 * Number, six registers, what a child does (0: nothing is known to be forked),
 * whether to enter by int $0x80. The child of a fork returns 0; it stays in
 * registers, because it may share this stack, until it has taken the one that
 * the start of its role names: r12 is the register that both entries keep. One
 * that pauses dies with its
 * parent, so that it does not outlive an agent that is killed, and should the
 * parent be gone already, after ten minutes.
 */
long raw_call(long number, const uint64_t *registers, uintptr_t child, long gate);
#if defined(__x86_64__)
__asm__(".text\n"
	".globl raw_call\n"
	".type raw_call, @function\n"
	"raw_call:\n"
	"	pushq %rbx\n"
	"	pushq %rbp\n"
	"	pushq %r12\n"
	"	movq %rdx, %r12\n"
	"	movq %rdi, %rax\n"
	"	movq %rsi, %r11\n"
	"	testq %rcx, %rcx\n"
	"	jnz 1f\n"
	"	movq 0(%r11), %rdi\n"
	"	movq 8(%r11), %rsi\n"
	"	movq 16(%r11), %rdx\n"
	"	movq 24(%r11), %r10\n"
	"	movq 32(%r11), %r8\n"
	"	movq 40(%r11), %r9\n"
	"	syscall\n"
	"	jmp 2f\n"
	"1:	movq 0(%r11), %rbx\n"
	"	movq 8(%r11), %rcx\n"
	"	movq 16(%r11), %rdx\n"
	"	movq 24(%r11), %rsi\n"
	"	movq 32(%r11), %rdi\n"
	"	movq 40(%r11), %rbp\n"
	"	int $0x80\n"
	"2:	testq %r12, %r12\n"
	"	jz 4f\n"
	"	testl %eax, %eax\n"
	"	jnz 4f\n"
	"	cmpq $1, %r12\n"
	"	je 5f\n"
	"	cmpq $2, %r12\n"
	"	ja 6f\n"
	"	movl $600, %edi\n"
	"	movl $37, %eax\n"	/* alarm */
	"	syscall\n"
	"	movl $1, %edi\n"	/* PR_SET_PDEATHSIG */
	"	movl $9, %esi\n"	/* SIGKILL */
	"	movl $157, %eax\n"	/* prctl */
	"	syscall\n"
	"3:	movl $34, %eax\n"	/* pause */
	"	syscall\n"
	"	jmp 3b\n"
	"4:	popq %r12\n"
	"	popq %rbp\n"
	"	popq %rbx\n"
	"	retq\n"
	"5:	xorl %edi, %edi\n"
	"	movl $60, %eax\n"	/* exit */
	"	syscall\n"
	"	ud2\n"
	"6:	movq %r12, %rdi\n"
	"	movq 0(%r12), %rsp\n"
	"	xorl %ebp, %ebp\n"
	"	call role_begin\n"
	"	ud2\n"
	".size raw_call, . - raw_call\n");
#else
#error "raw_call is written for x86_64 only"
#endif

static bool forks(int64_t number, uint32_t abi)
{
	/* The x32 bit selects the other table, whose numbers for these are the same. */
	uint32_t low = (uint32_t)number & ~(uint32_t)X32_BIT;

	if (abi == WIRE_IA32)
		return low == IA32_FORK || low == IA32_VFORK || low == IA32_CLONE ||
		       low == IA32_CLONE3;
	return low == SYS_fork || low == SYS_vfork || low == SYS_clone || low == SYS_clone3;
}

bool call_forks(const struct wire_call *call)
{
	return call->abi != WIRE_DEED && forks(call->number, call->abi);
}

int64_t call_make(int64_t number, uint32_t abi, const uint64_t *arguments, uintptr_t child)
{
	int64_t value;

	if (!forks(number, abi))
		child = 0;
	if (abi == WIRE_X32)
		number |= X32_BIT;
	value = raw_call((long)number, arguments, child, abi == WIRE_IA32);
	if (abi != WIRE_IA32)
		return value;
	/* 32 bits, of which only an errno has a sign. */
	if ((int32_t)value < 0 && (int32_t)value >= -4095)
		return (int32_t)value;
	return (uint32_t)value;
}

static unsigned char *arena;
static struct seen *seen;
static int laid;

/* What a call returned, and an address in the arena. */
#define R(call) ((uint64_t)seen->values[call])
#define AT(offset) ((uint64_t)(uintptr_t)(arena + (offset)))

__attribute__((unused)) static uint64_t word(unsigned offset, unsigned size)
{
	int64_t value = 0;

	memcpy(&value, arena + offset, size);
	return (uint64_t)(value << (64 - 8 * size) >> (64 - 8 * size));
}

__attribute__((unused)) static void store(unsigned offset, unsigned size, uint64_t value)
{
	memcpy(arena + offset, &value, size);
}

static long enter_ia32(long number, const uint64_t *a)
{
	register const uint64_t *arguments __asm__("r9") = a;
	long value = number;

	__asm__ volatile("subq $128, %%rsp\n\tpushq %%rbx\n\tpushq %%rbp\n\t"
			 "movq 0(%%r9), %%rbx\n\tmovq 8(%%r9), %%rcx\n\tmovq 16(%%r9), %%rdx\n\t"
			 "movq 24(%%r9), %%rsi\n\tmovq 32(%%r9), %%rdi\n\tmovq 40(%%r9), %%rbp\n\t"
			 "int $0x80\n\tpopq %%rbp\n\tpopq %%rbx\n\taddq $128, %%rsp"
			 : "+a"(value), "+r"(arguments)
			 :
			 : "rcx", "rdx", "rsi", "rdi", "r8", "r10", "r11", "cc", "memory");
	value &= 0xffffffff;
	return value > 0xfffff000 ? (int32_t)value : value;
}

/* A child stays in registers, because it may share this stack: it ends or pauses right here.
 * One that pauses dies with its parent; was that gone already, an alarm(2) ends it later than
 * anybody waits for. */
static long enter(long number, const uint64_t *a, long child)
{
	register uint64_t d __asm__("r10") = a[3], e __asm__("r8") = a[4], f __asm__("r9") = a[5];
	register long role __asm__("r12") = child;
	long value;

	__asm__ volatile("syscall\n\ttestq %%r12, %%r12\n\tjz 9f\n\ttestl %%eax, %%eax\n\tjnz 9f\n\t"
			 "cmpq $1, %%r12\n\tje 5f\n\t"
			 "movl %[limit], %%edi\n\tmovl $37, %%eax\n\tsyscall\n\t"
			 "movl $1, %%edi\n\tmovl $9, %%esi\n\tmovl $157, %%eax\n\tsyscall\n"
			 "3:\tmovl $34, %%eax\n\tsyscall\n\tjmp 3b\n"
			 "5:\txorl %%edi, %%edi\n\tmovl $60, %%eax\n\tsyscall\n"
			 "9:"
			 : "=a"(value)
			 : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(d), "r"(e), "r"(f),
			   "r"(role), [limit] "i"(SECONDS + 1)
			 : "rcx", "r11", "cc", "memory");
	return value;
}

static int forks(long number)
{
	return number == SYS_fork || number == SYS_vfork || number == SYS_clone ||
	       number == SYS_clone3;
}

static void do_call(int index, long number, enum abi abi, uint64_t a, uint64_t b, uint64_t c,
		    uint64_t d, uint64_t e, uint64_t f)
{
	uint64_t arguments[6] = { a, b, c, d, e, f };
	size_t at = 0;

	seen->values[index] = INT64_MAX - 1;
	seen->values[index] =
		abi == IA32 ? enter_ia32(number, arguments) :
		enter(number | (abi == X32 ? X32_BIT : 0), arguments, forks(number) ? CHILDREN : 0);
	for (int i = 0; outputs[i].call >= 0; i++) {
		if (outputs[i].call == index)
			memcpy(seen->outputs + at, arena + outputs[i].offset, outputs[i].length);
		at += outputs[i].length;
	}
}

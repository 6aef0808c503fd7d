/*
 * A kernel that is made to differ: one alteration of one call, for tests of
 * those who have to find it. Only in builds with HOSTABI_ALTER.
 */
#include "agent.h"

#ifdef HOSTABI_ALTER
#include <errno.h>

static struct wire_alter altered;

int alter_set(struct cursor *cursor, struct answer *answer)
{
	const struct wire_alter *ask = take(cursor, sizeof(*ask));

	if (!ask || ask->kind > WIRE_ALTER_OUT || ask->argument >= WIRE_ARGUMENTS)
		return answer_error(answer, -EBADMSG, "alter request");
	altered = *ask;
	return 0;
}

static bool in_arena(uint64_t address, const struct wire_program *program)
{
	return address >= WIRE_ARENA && address - WIRE_ARENA < program->arena;
}

int64_t alter_call(const struct wire_call *call, const uint64_t *registers, uintptr_t child,
		   const struct wire_program *program)
{
	bool ours = altered.kind && call->abi == WIRE_NATIVE && call->number == altered.number;
	uint64_t given = ours ? registers[altered.argument] : 0;
	uint64_t place = given + altered.offset;
	int64_t value;

	if (ours && altered.kind == WIRE_ALTER_FLAG && (given & altered.match) == altered.match)
		return -altered.value;
	value = call_make(call->number, call->abi, registers, child);
	if (!ours)
		return value;
	if (altered.kind == WIRE_ALTER_ERROR && value == -(int64_t)altered.match)
		return -altered.value;
	if (altered.kind == WIRE_ALTER_RESULT && value >= 0)
		return value + altered.value;
	if (altered.kind == WIRE_ALTER_OUT && value >= 0 && in_arena(place, program))
		*(volatile uint8_t *)(uintptr_t)place ^= (uint8_t)altered.value;
	return value;
}
#endif

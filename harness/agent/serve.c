/* One request after another, each to the part that knows it. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

/* Requests and answers longer than this give their memory back afterwards. */
#define KEEP_BYTES 1048576

static int dispatch(uint32_t type, struct cursor *cursor, struct answer *answer)
{
	switch (type) {
	case WIRE_HELLO:
		return hello(answer);
	case WIRE_PING:
		return 0;
	case WIRE_RUN:
		return program_run(cursor, answer);
	case WIRE_COMMAND:
		return command_run(cursor, answer);
	case WIRE_READ:
		return file_read(cursor, answer);
	case WIRE_WRITE:
		return file_write(cursor, answer);
	case WIRE_WALK:
		return walk(cursor, answer);
	case WIRE_RESET:
		return system_reset();
	case WIRE_CLOCK:
		return system_clock(cursor, answer);
#ifdef HOSTABI_ALTER
	case WIRE_ALTER:
		return alter_set(cursor, answer);
#endif
	case WIRE_SHELL:
		return system_shell(answer);
	case WIRE_POWER_OFF:
		return agent.pid1 ? 0 : answer_error(answer, -EPERM, "power off: not PID 1");
	default:
		return answer_error(answer, -ENOSYS, "request of an unknown type");
	}
}

static void *memory(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_ANONYMOUS | MAP_NORESERVE | MAP_PRIVATE, -1, 0);

	if (at == MAP_FAILED)
		die("memory for the wire");
	return at;
}

void serve(void)
{
	uint8_t *request = memory(WIRE_LIMIT);
	/* The frame stands before the payload, so that a small answer is one write. */
	uint8_t *reply = memory(sizeof(struct wire_frame) + WIRE_LIMIT);
	struct wire_frame *head = (struct wire_frame *)reply;
	struct wire_frame frame;

	record_make();
	while (channel_receive(&frame, request)) {
		struct cursor cursor = { .start = request, .length = frame.length };
		struct answer answer = { .bytes = reply + sizeof(*head) };

		frame.status = -dispatch(frame.type, &cursor, &answer);
		*head = frame;
		head->length = (uint32_t)answer.length;
		if (!channel_send(reply, sizeof(*head) + answer.length))
			break;
		if (frame.type == WIRE_POWER_OFF && !frame.status)
			system_power_off();
		if (frame.length > KEEP_BYTES)
			madvise(request, WIRE_LIMIT, MADV_DONTNEED);
		if (answer.length > KEEP_BYTES) {
			madvise(reply, WIRE_LIMIT, MADV_DONTNEED);
			record_forget();
		}
	}
	family_kill_all();
	exit(0);
}

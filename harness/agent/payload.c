/* Requests taken apart and answers put together, never past their ends. */
#include <errno.h>
#include <string.h>

#include "agent.h"

const void *take(struct cursor *cursor, size_t size)
{
	const void *found = cursor->start + cursor->at;

	if (size > cursor->length - cursor->at)
		return NULL;
	cursor->at += size;
	return found;
}

const void *take_padded(struct cursor *cursor, size_t size)
{
	return size > WIRE_LIMIT ? NULL : take(cursor, PADDED(size));
}

const char *take_string(struct cursor *cursor, size_t size)
{
	const char *text = take(cursor, size);

	return text && size && strnlen(text, size) == size - 1 ? text : NULL;
}

void *answer_room(struct answer *answer, size_t size)
{
	void *room = answer->bytes + answer->length;

	if (size > WIRE_LIMIT - answer->length)
		return NULL;
	memset(room, 0, size);
	answer->length += size;
	return room;
}

int answer_bytes(struct answer *answer, const void *bytes, size_t size)
{
	if (size > WIRE_LIMIT - answer->length)
		return -E2BIG;
	memcpy(answer->bytes + answer->length, bytes, size);
	answer->length += size;
	return 0;
}

int answer_pad(struct answer *answer)
{
	return answer_room(answer, PADDED(answer->length) - answer->length) ? 0 : -E2BIG;
}

int answer_error(struct answer *answer, int error, const char *what)
{
	answer->length = 0;
	answer_bytes(answer, what, strlen(what));
	return error;
}

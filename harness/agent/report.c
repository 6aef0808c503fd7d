/*
 * Text about what a program left, in the room that the board has for it. A
 * child writes it whose C library may be of no use any more: none of it is
 * called here, and what does not fit is cut off.
 */
#include "agent.h"

void report_char(struct report *report, char c)
{
	if (report->length < REPORT_LIMIT)
		report->text[report->length++] = (uint8_t)c;
}

void report_text(struct report *report, const char *text)
{
	while (*text)
		report_char(report, *text++);
}

void report_number(struct report *report, int64_t value)
{
	uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
	char digits[24];
	int count = 0;

	if (value < 0)
		report_char(report, '-');
	do
		digits[count++] = (char)('0' + left % 10);
	while (left /= 10);
	while (count)
		report_char(report, digits[--count]);
}

void report_bits(struct report *report, uint64_t value, unsigned base)
{
	char digits[24];
	int count = 0;

	do
		digits[count++] = "0123456789abcdef"[value % base];
	while (value /= base);
	report_text(report, base == 16 ? "0x" : "0");
	while (count)
		report_char(report, digits[--count]);
}

/* Whatever is no plain character stands as three octal digits, as in proc(5). */
void report_bytes(struct report *report, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;

	for (size_t i = 0; i < size; i++) {
		uint8_t c = from[i];

		if (c > ' ' && c < 127 && c != '\\') {
			report_char(report, (char)c);
			continue;
		}
		report_char(report, '\\');
		report_char(report, (char)('0' + (c >> 6)));
		report_char(report, (char)('0' + (c >> 3 & 7)));
		report_char(report, (char)('0' + (c & 7)));
	}
}

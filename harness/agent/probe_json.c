#include "probe.h"

#include <stdio.h>
#include <string.h>

static bool first = true;

static void quoted(const char *value, size_t length)
{
	putchar('"');
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)value[i];

		if (byte == '"' || byte == '\\')
			printf("\\%c", byte);
		else if (byte < 0x20 || byte >= 0x7f)
			printf("\\u%04x", byte);
		else
			putchar(byte);
	}
	putchar('"');
}

static void begin(const char *key)
{
	if (!first)
		putchar(',');
	first = false;
	if (key) {
		quoted(key, strlen(key));
		putchar(':');
	}
}

void json_open(const char *key, char bracket)
{
	begin(key);
	putchar(bracket);
	first = true;
}

void json_close(char bracket)
{
	putchar(bracket);
	first = false;
}

void json_bytes(const char *key, const char *value, size_t length)
{
	begin(key);
	quoted(value, length);
}

void json_text(const char *key, const char *value)
{
	json_bytes(key, value, strlen(value));
}

void json_number(const char *key, long long value)
{
	begin(key);
	printf("%lld", value);
}

void json_unsigned(const char *key, unsigned long long value)
{
	begin(key);
	printf("%llu", value);
}

void json_bool(const char *key, bool value)
{
	begin(key);
	fputs(value ? "true" : "false", stdout);
}

void json_line_begin(void)
{
	first = true;
	json_open(NULL, '{');
}

/* A line that cannot be written is not lost in silence: the host would take a
 * short answer for a complete one. */
void json_line_end(void)
{
	json_close('}');
	putchar('\n');
	if (fflush(stdout) != 0)
		perror("probe: cannot write the answer");
}

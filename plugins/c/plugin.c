/* A task in C with no SDK: counts what it reads, as wc does. A program for WASI preview 1.
 *
 *   horarium plugin register wc_c wc_c.wasm --args-from /args --stdin-from /text
 *
 * Arguments: lines, words, bytes (all of them without any). Its output is the result, what it writes
 * to stderr is log, and its exit code says how it ended: 0 success, 75 try again, others failure. */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 1, WORDS = 2, BYTES = 4 };

static int chosen(int argc, char **argv) {
    int what = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "lines") == 0) {
            what |= LINES;
        } else if (strcmp(argv[i], "words") == 0) {
            what |= WORDS;
        } else if (strcmp(argv[i], "bytes") == 0) {
            what |= BYTES;
        } else {
            fprintf(stderr, "%s: cannot count %s; lines, words and bytes are known\n", argv[0], argv[i]);
            exit(2);
        }
    }
    return what ? what : LINES | WORDS | BYTES;
}

int main(int argc, char **argv) {
    int what = chosen(argc, argv);
    unsigned long lines = 0, words = 0, bytes = 0;
    int inside = 0;
    for (int c; (c = getchar()) != EOF; bytes++) {
        lines += c == '\n';
        words += !inside && !isspace(c);
        inside = !isspace(c);
    }
    const char *attempt = getenv("HORARIUM_ATTEMPT");
    fprintf(stderr, "read %lu bytes in attempt %s\n", bytes, attempt ? attempt : "0");

    const char *comma = "";
    printf("{");
    if (what & LINES) {
        printf("\"lines\": %lu", lines);
        comma = ", ";
    }
    if (what & WORDS) {
        printf("%s\"words\": %lu", comma, words);
        comma = ", ";
    }
    if (what & BYTES) {
        printf("%s\"bytes\": %lu", comma, bytes);
    }
    printf("}\n");
    return 0;
}

/* Ends an Ollama's runner as it starts, as Go does when it cannot get a thread or memory: with words and a
   status. Only while the file that EXITING_RUNNER names is there, and only runners that are to hold a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void exit_if_runner(void)
{
    static const char words[] = "fatal error: there is no thread to be had\n";
    char arguments[8192];
    const char *flag = getenv("EXITING_RUNNER");
    FILE *file = fopen("/proc/self/cmdline", "r");
    if (file == NULL || flag == NULL || access(flag, F_OK) != 0)
        return;
    size_t length = fread(arguments, 1, sizeof arguments - 1, file);
    fclose(file);
    arguments[length] = '\0';
    const char *end = arguments + length;
    const char *first = arguments + strlen(arguments) + 1;
    if (first >= end || strcmp(first, "runner") != 0)
        return;
    for (const char *each = first; each < end; each += strlen(each) + 1) {
        if (strcmp(each, "--model") == 0) {
            if (write(STDERR_FILENO, words, sizeof words - 1) < 0)
                _exit(3);
            _exit(2);
        }
    }
}

/* Preloaded into linux.uml on processors with AMX. The kernel there refuses PTRACE_SETREGSET for
 * NT_X86_XSTATE unless the whole extended state is given; User Mode Linux gives the part it knows. So read
 * the full state of the traced process, lay the given bytes over its beginning and write all of it back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static char full[65536];

long ptrace(enum __ptrace_request request, ...)
{
	static long (*next)(int, int, void *, void *);
	va_list arguments;
	va_start(arguments, request);
	int pid = va_arg(arguments, int);
	void *address = va_arg(arguments, void *), *data = va_arg(arguments, void *);
	va_end(arguments);
	if (!next)
		next = (long (*)(int, int, void *, void *))dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
		struct iovec *given = data, whole = { full, sizeof full };
		if (!next(PTRACE_GETREGSET, pid, address, &whole) && given->iov_len < whole.iov_len) {
			memcpy(full, given->iov_base, given->iov_len);
			return next(PTRACE_SETREGSET, pid, address, &whole);
		}
	}
	return next(request, pid, address, data);
}

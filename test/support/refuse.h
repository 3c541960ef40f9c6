// Makes system calls fail for this process and what it starts, as a container's seccomp profile does.
#pragma once

// `names`: of system calls, with commas between them. Beside those:
//   thread      threads, not processes: clone(2) with CLONE_THREAD; clone3(2) is as if it were unknown,
//               since no filter can see its flags, and glibc then calls the other
//   setpipesize fcntl(2) with F_SETPIPE_SZ
// `error`: the name of an errno, EPERM or ENOSYS say. Null on success, otherwise what went wrong.
const char* refuse(const char* names, const char* error);

// The errno of a system call with arguments that can't be right; -1 for a name that isn't known.
int errno_of(const char* name);

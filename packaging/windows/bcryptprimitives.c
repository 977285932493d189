/* Rust's standard library takes its random numbers from ProcessPrng, which Windows has since 2009 and
 * Wine before 9 has not. Built into a bcryptprimitives.dll that lies beside the program; Windows itself
 * never loads it: the name is one of its known DLLs. */
#include <windows.h>
#include <ntsecapi.h>

BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    return RtlGenRandom(data, (ULONG)length);
}

#pragma once

/// What a function that both a kernel and the host may call is marked with. Under g++ it is an
/// ordinary inline function.
#if defined(__CUDACC__)
#define PIPECAST_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PIPECAST_HOST_DEVICE inline
#endif

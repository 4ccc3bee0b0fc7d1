/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stands in for every kernel header that bcc's own prologue includes: etio's programs need none of them. */
#ifndef ETIO_STAND_IN_H
#define ETIO_STAND_IN_H

typedef unsigned char __u8, u8;
typedef signed char __s8, s8;
typedef unsigned short __u16, u16, __be16, __le16, __sum16;
typedef short __s16, s16;
typedef unsigned int __u32, u32, __be32, __le32, __wsum;
typedef int __s32, s32, pid_t;
typedef unsigned long long __u64, u64, __be64, __le64;
typedef long long __s64, s64;
typedef unsigned long size_t, uintptr_t;
typedef long ssize_t;
typedef _Bool bool;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define NULL ((void *)0)
#define CONFIG_BPF_SYSCALL 1
/* Tracing programs no longer carry a kernel version (since Linux 5.0); any value will do. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tracing programs no longer carry a kernel version (since Linux 5.0); any value will do. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)

"""eBPF: warden and loader (processes of their own, privileged) and, per family, a program and its reader."""

"""Inference servers: queues, latency, throughput, KV cache."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("KvCacheFull", "warning", ("inference_kv_cache_used_ratio",), "the KV cache of {entity} is full",
              grace_s=3.5),
    AlertKind("ServingQueueLong", "warning", ("inference_waiting_requests",), "requests pile up at {entity}"),
    AlertKind("ServingLatencyHigh", "warning", ("inference_e2e_latency_p50_seconds",), "{entity} answers late",
              for_s=10, grace_s=5.5),
    AlertKind("ServingThroughputLow", "warning", ("inference_generated_tokens_per_second",),
              "{entity} gives fewer tokens than before at the same load", for_s=10, grace_s=2.5),
    AlertKind("ServingGpuIdle", "warning", ("inference_waiting_requests",),
              "requests wait at {entity} although no GPU is busy", for_s=10, grace_s=2.5),
    AlertKind("ServingSlow", "warning", ("inference_step_seconds",), "{entity} is slower than its load explains",
              for_s=20, grace_s=5.5, clear_s=30),
    AlertKind("ModelPartlyOnCpu", "warning", ("inference_gpu_resident_ratio",),
              "{model} does not fit into GPU memory and runs partly on the CPU", for_s=30, clear_s=60),
    AlertKind("ServingDown", "critical", ("inference_server_up",), "{entity} does not answer", for_s=4),
)

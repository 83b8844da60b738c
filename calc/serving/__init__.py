"""What a deployment can serve: memory, cache capacity, latency, throughput, money."""

"""The only room that knows everybody: wiring, loop, workers, replay. Decides nothing; what decides belongs in core."""

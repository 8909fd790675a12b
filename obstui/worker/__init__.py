"""The background worker: claims jobs, supervises one child per attempt, never imports torch.

launch     what the command line and the dashboard call: start, stop, status, run
loop       one worker on one device: recover, claim, attempt, again
attempt    one attempt: relay the child's lines, obey the user, judge the end
relay      the child's facts and progress, on their way into the store
samples    the memory curve of an attempt, thinned
verdict    how an attempt ended, as state, reason and one sentence
supervise  one child process: spawn, order, read, stop, reap
child      the child's own main (the only side that imports the engine)
teller     the child's events as lines: facts, progress, memory
runs       a job spec as a run of `core`
protocol   the lines between worker and child
manifest   result.json: what a finished attempt left on disk
liveness   the device lock and process identity
gpu        which devices there are; the side processes that ask NVML
telemetry  how a device is doing, never waiting for its driver
guard      whether the machine is fit for the next job, and whether the running one makes room
logs       an attempt's log, kept within bounds
housekeeping  notices, digest, backups, the action at the end of the queue: one worker of several
notify     notices in words, and the side process that sends them
when_empty suspend, power off or a command, once, when the queue is empty
install    the systemd unit
python     starting our own modules in another interpreter
"""

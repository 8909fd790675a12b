"""The background worker: claims jobs, supervises one child per attempt, never imports torch.

launch     what the command line and the dashboard call: start, stop, status, run
loop       one worker on one device: recover, claim, attempt, again
attempt    one attempt: relay the child's lines, obey the user, judge the end
relay      the child's facts and progress, on their way into the store
verdict    how an attempt ended, as state, reason and one sentence
supervise  one child process: spawn, order, read, stop, reap
child      the child's own main (the only side that imports the engine)
teller     the child's events as lines: facts, progress, memory
runs       a job spec as a run of `core`
protocol   the lines between worker and child
manifest   result.json: what a finished attempt left on disk
liveness   the device lock and process identity
gpu        which devices there are
python     starting our own modules in another interpreter
"""

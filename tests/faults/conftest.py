"""Fixtures of the fault tests, and where each fault is injected.

F1  claims by 8 processes           test_store_faults: both journal modes
F2  the naive claim fails           test_store_faults; test_store_claims (fast)
F3  kills of two writers            test_store_faults; test_store_recovery (fast)
F4  25 worker kills over 200 jobs   test_worker_storm
F5  worker killed: nobody stays     test_worker_death, test_worker_faults (sessions of their own)
F6  killed before the row           test_worker_death, test_worker_supervision (late deaths)
F7  late finish of a fenced attempt test_store_claims (stale owner), test_worker_supervision
F8  SIGSTOP of the worker           test_worker_faults, against a silence limit of a second
F9  the clock steps                 test_store_faults (order), the tests of the time windows
F10 suspend                         test_worker_wishes; every write is fenced (F7)
F11 full disk                       test_disk_faults, on a filesystem of 64 MiB
F12 foreign lock on the store       test_worker_faults: 3 s, and 10 s beside a dashboard
F13 an idle reader                  test_store_reader
F14 what children do                test_worker_supervision, test_worker_faults
F15 cancel in each state, races     test_store_faults (500 races), test_store_transitions, _model
F16 poison                          test_worker_faults; test_store_recovery (fast)
F17 like failures                   test_worker_faults
F18 messages of other lives         test_worker_death, test_worker_parts
F19 two workers on one device       test_worker_faults (50 pairs)
F20 six first starts                test_store_faults (30 times); test_store_files (4 times)
F21 F22 F23 migrations, bad files, backups: the store's own tests
F24 F25 checkpoints, kill at each unit: tests/core/test_prune, test_checkpoint; test_kill9
F26 hostile strings                 test_text, test_specs, test_store_transitions, housekeeping
F27 traversal, YAML                 test_worker_parts (manifests), the tests of job files
F28 a notifier that hangs           test_worker_housekeeping
F29 the countdown                   test_worker_housekeeping
F31 network filesystems, versions   test_store_files
F32 soak                            soak.py (make soak)
"""

from __future__ import annotations

from ..obstui.conftest import clock, paths, reader, spawn, sql, store
from ..obstui.worker.conftest import bench

__all__ = ["bench", "clock", "paths", "reader", "spawn", "sql", "store"]

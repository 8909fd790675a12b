"""`python -m obstui`: the same as the `obstui` command."""

from obstui.cli import main

main()

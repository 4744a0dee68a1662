"""`python -m jobs.harness`: the harness's own command line with `--model dream`."""

from jobs.harness.adapter import main

if __name__ == "__main__":
    main()

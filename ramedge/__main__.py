"""`python -m ramedge`, which torchrun needs."""

from ramedge.cli.entry import main

if __name__ == "__main__":
    main()

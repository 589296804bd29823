"""``python -m tamtctl``, which is also what ``torchrun -m tamtctl`` runs."""

from tamtctl.cli.app import main as main

if __name__ == "__main__":
    main()

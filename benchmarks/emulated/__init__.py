"""`emulated`: the runtime on a processor that is not at hand, under an emulator."""

"""`emulated`: the runtime on other processors, under an emulator."""

"""The pictures of docs/, made by the code that stands above them."""

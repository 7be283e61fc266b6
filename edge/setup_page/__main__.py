"""`python -m edge.setup_page`: the page as its own process."""

from edge.setup_page.serving import main

if __name__ == "__main__":
    main()

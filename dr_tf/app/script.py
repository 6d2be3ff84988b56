"""What Streamlit runs at each visit and each click."""

from dr_tf.app.page import show_page

show_page()

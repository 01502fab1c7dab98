def test_the_home_page_leads_everywhere(client):
    page = client.get("/").content.decode()
    for path in ("/api/docs/", "/admin/", "/flower/"):
        assert f'href="{path}"' in page

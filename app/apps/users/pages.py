"""/verify-email/: where the link in an e-mail leads."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from apps.users import services
from apps.users.verification import TokenRefusedError


@method_decorator(never_cache, "dispatch")
class VerifyEmailPage(View):
    """Asks before it confirms: programs that look for viruses open every link of an e-mail."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the button."""
        return self._page(request, "asked", token=request.GET.get("token", ""))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Confirm the address."""
        try:
            services.email_verify(token=request.POST.get("token", ""))
        except TokenRefusedError:
            return self._page(request, "refused", status=400)
        return self._page(request, "verified")

    def _page(self, request: HttpRequest, state: str, *, token: str = "", status: int = 200) -> HttpResponse:
        return render(request, "users/verify_email.html", {"state": state, "token": token}, status=status)

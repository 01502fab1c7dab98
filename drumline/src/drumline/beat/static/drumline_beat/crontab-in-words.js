"use strict";
// Below the crontab that is chosen, what it means in words. The library's own page does this in a script within the page,
// which a strict Content-Security-Policy refuses.
{
    const words = JSON.parse(document.getElementById("crontabs-in-words").textContent);
    const field = document.getElementById("id_crontab");
    const help = document.querySelector(".field-crontab .help");
    const line = help.appendChild(document.createElement("div"));
    const show = () => { line.textContent = words[field.value] ?? ""; };

    // Related objects are added and changed in a window of their own, whose answer comes as an event of Django's jQuery.
    django.jQuery(field).on("change", show);
    show();
    document.querySelector(".field-crontab_translation")?.setAttribute("hidden", "");
}

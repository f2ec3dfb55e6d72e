<?php // app/Http/Middleware/OnlyTheGateway.php
// ANCHOR: gateway
namespace App\Http\Middleware;

use Closure;
use Illuminate\Http\Request;

class OnlyTheGateway
{
    public function handle(Request $request, Closure $next)
    {
        $secret = config('services.tidegate.secret');
        $isKnown = $secret === '' || hash_equals($secret, (string) $request->header('X-Ws-Gateway-Secret'));
        return $isKnown ? $next($request) : response('', 403);
    }
}
// ANCHOR_END: gateway

<?php // app/Tidegate.php
namespace App;

use Illuminate\Support\Facades\Http;

// ANCHOR: calls
class Tidegate
{
    private static function call(string $url, array $body = [])
    {
        return Http::withToken(config('services.tidegate.key'))->timeout(10)->post($url, $body)->throw()->json();
    }

    /** Counts of who took it: ['delivered' => 2, 'gone' => 0, 'slow' => 0]. */
    public static function push(string $channel, array $message, array $query = [])
    {
        $url = config('services.tidegate.endpoint') . '/@channels/' . rawurlencode($channel);
        return self::call($url . '?' . http_build_query($query), $message);
    }

    public static function issueToken(string $user, string $login)
    {
        [$stage, $api] = array_reverse(explode('/', rtrim(config('services.tidegate.endpoint'), '/')));
        $body = compact('api', 'stage', 'user') + ['session' => $login];
        return self::call(config('services.tidegate.admin') . '/api/tokens', $body);
    }

    public static function endSession(string $login)
    {
        self::call(config('services.tidegate.admin') . '/api/sessions/' . rawurlencode($login) . '/end');
    }
}
// ANCHOR_END: calls
